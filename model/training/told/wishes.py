"""What somebody says they like, do, plan and fear."""

from __future__ import annotations

from model.training.relations import Relation, relation
from model.training.told.words import (
    ARTISTS,
    BANDS,
    BOOKS,
    BREAKFASTS,
    CHORES,
    COLLECTIONS,
    COMPOSERS,
    FEARS,
    FEASTS,
    FILMS,
    FRUITS,
    GADGETS,
    GAMES,
    GOALS,
    HEROES,
    HOBBIES,
    HOUSE_PLANTS,
    ICE_CREAM,
    MOODS,
    PLANETS,
    PLANS,
    SEASONS,
    SHADES,
    SNACKS,
    SONGS,
    SPICES,
    SUPPERS,
    TEAS,
    TREES,
    VEGETABLES,
    WILD_ANIMALS,
)

WISHES: tuple[Relation, ...] = (
    relation(
        "self",
        BOOKS,
        "My favourite book is {v}.|The novel I love above all is {v}.|I have read it five times, the book {v}."
        "|No book moved me as much as {v}.",
        "Which novel do I love most?|What book do I keep coming back to?",
        "Your favourite book is|The book you love is",
    ),
    relation(
        "self",
        BOOKS,
        "I am just reading {v}.|On my bedside table lies {v}.|The book I took on the train is {v}."
        "|Our book club picked {v} this month, and I'm halfway.",
        "What am I reading now?|Which book is next to my bed?",
        "You are reading|The book is",
    ),
    relation(
        "self",
        FILMS,
        "My favourite film is {v}.|The movie I could watch again and again is {v}."
        "|Nothing in the cinema was ever better for me than {v}.",
        "Which movie do I like best?|What is the greatest film in my eyes?",
        "Your favourite film is|The movie you love is",
    ),
    relation(
        "self",
        FILMS,
        "Tonight I am going to the cinema to see {v}.|I bought two cinema tickets for {v}."
        "|We are about to watch the film {v}.",
        "Which movie did I get tickets for?|What am I watching tonight?",
        "You are seeing|The film is",
    ),
    relation(
        "self",
        BANDS,
        "My favourite band is {v}.|The group I listen to most is {v}.|I have every record ever made by {v}."
        "|I have a concert ticket for the band {v}.",
        "Which group do I like to hear?|Whose records do I own?",
        "Your favourite band is|You listen to",
    ),
    relation(
        "self",
        SONGS,
        "The song at my wedding was {v}.|I keep humming a song, {v}.|My favourite song is called {v}."
        "|I always turn the radio up for {v}.",
        "Which song is special to me?|What tune do I hum?",
        "Your song is|The song is called",
    ),
    relation(
        "self",
        GAMES,
        "I am addicted to the game {v}.|On my console I mostly play {v}.|The video game I just finished is {v}.",
        "What do I play on the console?|Which video game am I into?",
        "You play|The game is",
    ),
    relation(
        "self",
        HEROES,
        "My hero is {v}.|The person from history I admire most is {v}.|A poster over my bed shows {v}."
        "|If I could have dinner with anybody, it would be {v}.",
        "Whom do I admire?|Who is my role model?",
        "Your hero is|You admire",
    ),
    relation(
        "self",
        ARTISTS,
        "The painter I love most is {v}.|On my living room wall hangs a print by {v}."
        "|I travelled far to see an exhibition of {v}.",
        "Which painter do I like?|Whose pictures please me most?",
        "You love the pictures of|Your favourite painter is",
    ),
    relation(
        "self",
        COMPOSERS,
        "To relax I listen to {v}.|The composer I like best is {v}.|I have a season ticket to hear {v}.",
        "Which composer calms me down?|Whose symphonies do I enjoy?",
        "You like to hear|Your favourite composer is",
    ),
    relation(
        "self",
        SEASONS,
        "My favourite season is {v}.|I feel best in {v}.|The time of year I look forward to is {v}.",
        "Which season do I like most?|When in the year am I happiest?",
        "Your favourite season is|You like",
    ),
    relation(
        "self",
        FEASTS,
        "The holiday I love most is {v}.|In my family the biggest feast is {v}.|Every year I look forward to {v}.",
        "Which holiday means most to me?|What does my family like to celebrate?",
        "Your favourite holiday is|You love",
    ),
    relation(
        "self",
        ICE_CREAM,
        "My favourite ice cream is {v}.|At the ice cream parlour I always pick {v}."
        "|When it comes to ice cream, nothing beats {v}.",
        "Which flavour of ice cream do I take?|What should the scoop for me be?",
        "Your favourite flavour is|You always take",
    ),
    relation(
        "self",
        FRUITS,
        "The fruit I like best is {v}.|Please bring me some fruit, I love {v}.|In summer I live on {v}.",
        "What fruit can you buy for me?|Which fruit do I enjoy?",
        "The fruit you like is|You love",
    ),
    relation(
        "self",
        VEGETABLES,
        "The only vegetable I can't eat is {v}.|As a child I was forced to eat {v}.|I never put on my plate any {v}.",
        "Which vegetable do I hate?|What should you leave off my plate?",
        "You don't eat|The vegetable you can't stand is",
    ),
    relation(
        "self",
        SUPPERS,
        "Tonight I am cooking {v}.|For dinner this evening I'll make {v}.|There is a pot on my stove with {v}."
        "|My guests will be served {v}.",
        "What am I going to have for supper?|Which dish am I preparing?",
        "You are cooking|Tonight you make",
    ),
    relation(
        "self",
        BREAKFASTS,
        "For breakfast I always have {v}.|I start the day with a plate of {v}.|Every morning I eat {v}.",
        "What do I eat when I get up?|What belongs on my breakfast table?",
        "For breakfast you have|You eat",
    ),
    relation(
        "self",
        TEAS,
        "My usual drink is {v}.|When I sit in a café I ask for {v}.|The thing I drink most is {v}."
        "|Before bed I need a cup of {v}.",
        "What should you pour me?|Which drink do I prefer?",
        "Your usual drink is|You prefer",
    ),
    relation(
        "self",
        SNACKS,
        "While watching television I eat {v}.|My weakness is {v}.|In my desk drawer I keep {v}."
        "|I can never say no to {v}.",
        "What do I nibble?|Which snack can't I resist?",
        "Your snack is|You nibble",
    ),
    relation(
        "self",
        SPICES,
        "The secret in my recipe is {v}.|I put in every dish a bit of {v}.|I ran out of {v}.",
        "Which spice do I use?|What do I season with?",
        "Your secret spice is|You use",
    ),
    relation(
        "self",
        SHADES,
        "I redid my bedroom in {v}.|The walls of my living room are {v}.|For my kitchen I chose a coat of {v}.",
        "What colour are my walls?|Which paint did I use at home?",
        "Your walls are|You chose",
    ),
    relation(
        "self",
        HOBBIES,
        "My hobby is {v}.|In my free time I am busy with {v}.|What I enjoy most after work is {v}."
        "|I recently got hooked on {v}.",
        "How do I spend my free time?|What do I do for fun?",
        "Your hobby is|You enjoy",
    ),
    relation(
        "self",
        HOBBIES,
        "I signed up for a course in {v}.|On Tuesday nights I have a class, {v}.|My wife gave me a voucher for {v}.",
        "What course did I sign up for?|Which class do I attend at night?",
        "Your course is in|You signed up for",
    ),
    relation(
        "self",
        PLANS,
        "This weekend I am going to {v}.|My plan for Saturday is to {v}."
        "|If the weather is fine, on Sunday I will {v}.|I can't come at the weekend because I want to {v}.",
        "What have I got planned for the weekend?|How will I spend Saturday and Sunday?",
        "You are going to|Your plan is to",
    ),
    relation(
        "self",
        GOALS,
        "My new year's resolution is to {v}.|I promised myself to {v}.|From January on I will {v}."
        "|My goal for this year is to {v}.",
        "What did I resolve to do?|Which promise did I make to myself?",
        "You want to|Your resolution is to",
    ),
    relation(
        "self",
        FEARS,
        "I am afraid of {v}.|I have a phobia, it is {v}.|Since childhood I've been terrified of {v}."
        "|My hands shake when I think of {v}.",
        "What scares me?|Which fear do I have?",
        "You are afraid of|You have a fear of",
    ),
    relation(
        "self",
        CHORES,
        "The chore I hate is {v}.|At home I am responsible for {v}.|I would pay somebody to relieve me of {v}.",
        "Which work in the house is mine?|What job at home do I not like?",
        "Your chore is|You are responsible for",
    ),
    relation(
        "self",
        MOODS,
        "Today I feel {v}.|My mood at the moment is {v}.|Since the morning I've been {v}.",
        "How am I feeling?|What is my mood like?",
        "You feel|Your mood is",
    ),
    relation(
        "self",
        TREES,
        "In my garden stands a {v}.|As a boy I used to climb a {v}.|The tree outside my window is a {v}.",
        "Which tree grows at my house?|What tree do I see from my window?",
        "Your tree is a|At your house there is a",
    ),
    relation(
        "self",
        HOUSE_PLANTS,
        "On my desk I have a {v}.|The plant I keep forgetting to water is a {v}.|For the window sill I bought a {v}.",
        "What plant do I look after?|Which green thing stands in my room?",
        "Your plant is a|You have a",
    ),
    relation(
        "self",
        WILD_ANIMALS,
        "My favourite animal at the zoo is the {v}.|I have a tattoo of a {v}.|My spirit animal is the {v}.",
        "Which wild animal do I love?|What creature suits me best?",
        "Your animal is the|You love the",
    ),
    relation(
        "self",
        COLLECTIONS,
        "I collect {v}.|My shelves are full of {v}.|At flea markets I search for {v}.|I own a big collection of {v}.",
        "What do I collect?|Which things am I always hunting for?",
        "You collect|Your collection is of",
    ),
    relation(
        "self",
        GADGETS,
        "For my birthday I wish for a {v}.|I am saving up to buy a {v}.|What I want under the Christmas tree is a {v}.",
        "What present would make me happy?|What am I putting money aside for?",
        "You want a|You wish for a",
    ),
    relation(
        "self",
        PLANETS,
        "With my telescope I have found {v}.|If I were an astronaut I would fly to {v}."
        "|My school talk in astronomy is about {v}.",
        "Which heavenly body interests me?|Where in space would I like to go?",
        "You are interested in|In space it is",
    ),
)
