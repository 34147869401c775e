"""Training: `perennial train | plot | compare`.

command.py    flags; work.py what the commands do
settings.py   what a run is asked for: one YAML file
run.py        a run's folder: settings, metrics, results, checkpoints
optimise.py   parameter groups, schedule, an optimiser's state as tensors
loop.py       step, evaluate, keep, stop in time, go on exactly
task.py       what the loop knows of what is trained
language.py   next tokens of texts, streamed with the state passed on
associative.py  keys and values beyond the window
recall.py     the memory of a model whose other weights stay
curves.py     training curves and tables of runs
"""
