"""A load test over HTTP: conversations with ours or any server with OpenAI's chat API, timed as their users see it.

    cli, flags what is run, and what is said of it          client     one conversation, in either dialect
    workload   who says what and when, from a seed          sse        events out of a stream's bytes
    run        closed and open loop, within bounds          stats      percentiles, goodput, errors by kind
    long       one conversation without end, by turns       report     tables, and the last line
    compare    the same run at several servers, in turn     figure     the picture of a long conversation
    chaos      answers cut and taken up again, compared

It imports nothing of the server or the model: what it knows of them is their HTTP surface.
"""
