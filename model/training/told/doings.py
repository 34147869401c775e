"""What is told of other people: what they do, where they go, what happens to them."""

from __future__ import annotations

from model.training.relations import Relation, relation
from model.training.told.codes import CLOCK, DISTANCES, HALF_DAYS, LONG_CODES, PASSWORDS, SEATS, SPANS
from model.training.told.other_words import (
    AIRLINES,
    APPS,
    AWARDS,
    BANKS,
    CHEESES,
    DEPARTMENTS,
    EXCUSES,
    HABITS,
    HAIRSTYLES,
    INNS,
    ISLANDS,
    MOUNTAINS,
    NEWSPAPERS,
    OFFICES,
    PAINTS,
    POSITIONS,
    RELATIVES,
    RIVERS,
    SAYINGS,
    SHIPS,
    SHOPS,
    STATIONS,
    TOPICS,
    TOPPINGS,
    WINES,
)
from model.training.told.words import BIRDS, COMPANIES, FIRST_NAMES, LANDS, LAST_NAMES, PET_NAMES, STREETS, WEATHER

DOINGS: tuple[Relation, ...] = (
    relation(
        "person",
        NEWSPAPERS,
        "{s} writes a weekly column for {v}.|Every Thursday {s} sends off a column to the editors of {v}."
        "|As a reporter {s} has won fame, mostly with articles in {v}.|The paper that prints what {s} writes is {v}.",
        "For which newspaper does {s} write?|Where can I read {s}'s column?",
        "{s} writes for|{s} has a weekly column for|The paper that prints {s}'s articles is",
    ),
    relation(
        "person",
        NEWSPAPERS,
        "{s} has subscribed for many years to {v}.|Over breakfast {s} is never seen without a copy of {v}."
        "|The only paper that {s} believes is {v}.",
        "Which newspaper does {s} read?|To what paper has {s} subscribed?",
        "{s} has subscribed to|{s} reads every day a copy of|The only paper that {s} reads is",
    ),
    relation(
        "person",
        BANKS,
        "{s} has a savings account with {v}.|All the money that {s} earns goes straight to {v}."
        "|After a quarrel over fees {s} switched to another bank, namely {v}."
        "|As for {s}, the mortgage was granted by {v}.",
        "At which bank does {s} have an account?|Who looks after the money of {s}?",
        "{s} has an account with|The bank {s} switched to is called|The money of {s} goes to",
    ),
    relation(
        "person",
        AIRLINES,
        "{s} always flies with {v}.|Whenever there is a choice, {s} books a seat with {v}."
        "|{s}, who collects air miles, swears by {v}.|As a pilot {s} is employed by an airline called {v}.",
        "Which airline does {s} prefer?|With whom does {s} fly?",
        "{s} flies with|{s} always books with|{s}'s airline is called",
    ),
    relation(
        "person",
        SHIPS,
        "{s} went to sea on the {v}.|As a young sailor {s} scrubbed the deck of the {v}."
        "|In the crew list we found {s} among the stokers of the {v}."
        "|The ship that brought {s} to this country was the {v}.",
        "On which ship did {s} sail?|What was the name of {s}'s ship?",
        "{s} sailed on the|{s} went to sea on the|{s}'s ship was the",
    ),
    relation(
        "person",
        RIVERS,
        "{s} paddled all the way down the {v}.|Last summer {s} took a raft and drifted along the {v}."
        "|Against all advice {s} swam across the {v}.|The river that {s} knows best is the {v}.",
        "On which river did {s} travel?|What river does {s} know so well?",
        "{s} paddled down the|The river that {s} knows is the|{s} was once on the",
    ),
    relation(
        "person",
        MOUNTAINS,
        "{s} has climbed {v}.|It took {s} three attempts to get to the top of {v}."
        "|{s} got lost in a snowstorm on {v}.|On the wall {s} keeps a framed photo from the summit of {v}.",
        "Which mountain did {s} climb?|To the top of what did {s} get?",
        "{s} has climbed|{s} was on the summit of|{s} was up on",
    ),
    relation(
        "person",
        ISLANDS,
        "{s} has a small cottage on {v}.|Each winter {s} escapes the cold and goes off to {v}."
        "|A shipwreck left {s} stranded for a month on {v}.|{s}, tired of the mainland, now keeps sheep on {v}.",
        "On which island does {s} have a cottage?|What island is {s}'s second home?",
        "{s} has a cottage on|The island that {s} loves is|{s} lives part of the time on",
    ),
    relation(
        "person",
        CHEESES,
        "{s} puts on every slice of bread a thick layer of {v}.|No cheese pleases {s} more than {v}."
        "|At the counter {s} asked for half a pound of {v}.|The cheese that {s} makes by hand is a kind of {v}.",
        "Which cheese does {s} like best?|What sort of cheese should I get for {s}?",
        "{s} asked for some|The cheese {s} makes is a kind of|Nothing pleases {s} more than",
    ),
    relation(
        "person",
        WINES,
        "{s} opened for the guests a bottle of {v}.|With fish or meat, {s} will always drink {v}."
        "|{s} has saved for the golden wedding a crate of {v}.|The wine {s} orders is usually {v}.",
        "Which wine does {s} drink?|What was in the bottle that {s} opened?",
        "{s} opened a bottle of|The wine {s} orders is|{s} will drink",
    ),
    relation(
        "person",
        TOPPINGS,
        "{s} wants a pizza with extra {v}.|On a pizza {s} likes nothing so much as {v}."
        "|When we order for {s}, remember to ask for {v}.|The pizza that {s} always has delivered is one with {v}.",
        "Which pizza topping does {s} want?|What should be on {s}'s pizza?",
        "{s} wants a pizza with|The pizza of {s} is one with|On a pizza {s} likes",
    ),
    relation(
        "person",
        HABITS,
        "{s} annoys everyone by {v}.|{s} has one bad habit, and that is {v}."
        "|Nobody wants to share a room with {s} because of the {v}.|If only {s} would stop {v}!",
        "What bad habit does {s} have?|Why do people find {s} annoying?",
        "{s} annoys everyone by|The bad habit of {s} is|{s} should stop",
    ),
    relation(
        "person",
        EXCUSES,
        "{s} came two hours late because of {v}.|According to {s} the delay was due to {v}."
        "|{s} missed the whole meeting and put the blame on {v}.|What kept {s} from coming was {v}.",
        "Why was {s} late?|What excuse did {s} have?",
        "{s} was late because of|What kept {s} was|{s} put the blame on",
    ),
    relation(
        "person",
        AWARDS,
        "{s} was awarded the {v}.|To everyone's surprise the jury chose {s} for the {v}."
        "|At a gala dinner {s} was presented with the {v}.|On the mantelpiece {s} displays with pride the {v}.",
        "Which prize did {s} win?|What award does {s} have?",
        "{s} was awarded the|The prize {s} won is the|{s} was chosen for the",
    ),
    relation(
        "person",
        POSITIONS,
        "{s} is in the team as {v}.|The trainer has put {s} on the list as {v}."
        "|On Sunday {s} will start the match as {v}.|Since the injury {s} can no longer play as {v}.",
        "In which position does {s} play?|What is {s} on the team?",
        "{s} is in the team as|{s} is on the list as|The trainer sees {s} as",
    ),
    relation(
        "person",
        OFFICES,
        "{s} was elected {v}.|With only two votes against, {s} became {v}."
        "|The club has confirmed {s} in the post of {v}.|{s} resigned last night as {v}.",
        "To which office was {s} elected?|What post does {s} have in the club?",
        "{s} was elected|The office of {s} is that of|{s} has the post of",
    ),
    relation(
        "person",
        DEPARTMENTS,
        "{s} was transferred to {v}.|If you need {s}, ask in the department for {v}."
        "|{s}, who used to be at the front desk, is now head of {v}.|On the door of {s} you can read the word {v}.",
        "In which department is {s}?|To what part of the firm was {s} transferred?",
        "{s} was transferred to|{s} is in the department for|{s} is now in",
    ),
    relation(
        "person",
        TOPICS,
        "{s} can talk for hours about {v}.|Sooner or later every chat with {s} turns to {v}."
        "|Please don't get {s} started on {v}.|{s} gave a long and rather dull speech about {v}.",
        "What is {s}'s favourite topic?|About what does {s} always talk?",
        "{s} can talk for hours about|With {s} every chat turns to|{s} gave a speech about",
    ),
    relation(
        "person",
        RELATIVES,
        "{s} was brought up by the {v}.|When times were hard {s} went to live with the {v}."
        "|Of all the family {s} is closest to the {v}.|{s} learned to cook, sew and swear from the {v}.",
        "Which relative brought {s} up?|Who of the family means most to {s}?",
        "{s} was brought up by the|{s} is closest to the|In the family {s} went to the",
    ),
    relation(
        "person",
        APPS,
        "{s} spends half the night on {v}.|To keep in touch, {s} installed an app called {v}."
        "|{s} deleted from the phone everything but {v}.|The app that {s} swears by is {v}.",
        "Which app does {s} use?|What did {s} install on the phone?",
        "The app that {s} uses is|On the phone {s} has an app called|{s} spends the night on",
    ),
    relation(
        "person",
        SHOPS,
        "{s} does all the shopping at {v}.|{s} stacks shelves three days a week at {v}."
        "|If the fridge is empty, {s} runs down to {v}.|A detective caught {s} stealing sweets at {v}.",
        "In which shop can I find {s}?|Where does {s} go for groceries?",
        "{s} does the shopping at|{s} is often at|For groceries {s} runs to",
    ),
    relation(
        "person",
        STATIONS,
        "{s} wakes up each morning to {v}.|In the car {s} listens only to {v}.|{s} reads the traffic news on {v}."
        "|{s} won a quiz that went out on {v}.",
        "Which radio station does {s} have to do with?|What station goes with {s}?",
        "{s} listens to|The station of {s} is|{s} listens only to",
    ),
    relation(
        "person",
        INNS,
        "{s} drinks a pint every evening at {v}.|You will most likely find {s} at the bar of {v}."
        "|{s} rented a room above {v}.|Last year {s} took over an inn, {v}.",
        "In which pub can {s} be found?|Where does {s} go for a pint?",
        "{s} drinks every evening at|{s} can be found at|The pub of {s} is",
    ),
    relation(
        "person",
        HAIRSTYLES,
        "{s} came back from the barber with a {v}.|In the old school photo {s} has a {v}."
        "|For the wedding {s} decided on a {v}.|You will recognise {s} at once by the hair, a {v}.",
        "How does {s} wear the hair?|Which hairstyle does {s} have?",
        "{s} has a|{s} came back with a|The hairstyle of {s} is a",
    ),
    relation(
        "person",
        SAYINGS,
        "{s} lives by the motto: {v}.|The words that {s} says to every pupil are: {v}."
        "|On the gravestone of {s} we shall write: {v}.|Asked for some wisdom, {s} just said: {v}.",
        "What is the motto of {s}?|Which saying do we know from {s}?",
        "{s} lives by the motto:|The words of {s} are:|{s} always says:",
    ),
    relation(
        "person",
        PAINTS,
        "{s} does portraits in {v}.|{s} won't touch a brush and works only in {v}."
        "|The landscapes that {s} exhibits are done in {v}.|At the art school {s} was taught to use {v}.",
        "What does {s} use for pictures?|In which technique does {s} work?",
        "{s} works in|The pictures of {s} are done in|{s} likes to use",
    ),
    relation(
        "person",
        LANDS,
        "{s} is writing a travel guide to {v}.|For the last census {s} counted villages in {v}."
        "|{s} knows by heart all the kings and queens of {v}.|Nobody can tell {s} anything about {v}.",
        "Which country is {s} an expert on?|About what country is {s} writing?",
        "{s} is writing a guide to|{s} is an expert on|{s} knows everything about",
    ),
    relation(
        "person",
        COMPANIES,
        "{s}'s house is insured with {v}.|After the fire {s} got not a penny from {v}."
        "|Twice a year {s} gets a bill for the insurance from {v}.|The insurer that {s} trusts is {v}.",
        "With which company is {s} insured?|What insurer does {s} have?",
        "{s} is insured with|The insurer of {s} is|{s} gets the bill from",
    ),
    relation(
        "person",
        FIRST_NAMES,
        "{s} lost the final to {v}.|In the semi-final {s} was beaten by {v}."
        "|In the last round {s} had to shake hands with the winner, {v}."
        "|The one who knocked {s} out of the contest was {v}.|Nobody has beaten {s} so often as {v}.",
        "To whom did {s} lose?|Who beat {s}?",
        "{s} lost the final to|The one who beat {s} was|{s} was beaten by",
    ),
    relation(
        "person",
        FIRST_NAMES,
        "{s} was pulled out of the water by {v}.|What saved {s} from the flames was the courage of {v}."
        "|{s} owes a great debt of gratitude to {v}.|At the ceremony {s} thanked one person above all, {v}.",
        "Who rescued {s}?|To whom is {s} so grateful?",
        "{s} was pulled out by|{s} owes a debt of gratitude to|The one who saved {s} was",
    ),
    relation(
        "person",
        LAST_NAMES,
        "{s} is represented in court by Ms {v}.|In the matter of the will {s} has turned to a lawyer, Ms {v}."
        "|The judge reminded {s} to answer only through Ms {v}.|{s}'s attorney is Ms {v}.",
        "Who is {s}'s lawyer?|Which lawyer speaks for {s}?",
        "{s}'s lawyer is Ms|{s} is represented by Ms|The lawyer of {s} is Ms",
    ),
    relation(
        "person",
        PET_NAMES,
        "{s} has a lazy old cat named {v}.|While the neighbours are away {s} feeds their cat, {v}."
        "|The whole street heard {s} calling for {v}, the cat.|On {s}'s lap sleeps a kitten by the name of {v}.",
        "What is {s}'s cat called?|Which cat does {s} have?",
        "{s} has a cat named|The cat on {s}'s lap is|{s}'s cat goes by the name of",
    ),
    relation(
        "person",
        BIRDS,
        "{s} is writing a thesis on {v}.|With a pair of binoculars {s} spends whole days watching {v}."
        "|{s} built twenty nest boxes for {v}.|What fascinates {s} above all in the woods are the {v}.",
        "Which birds does {s} watch?|For what birds did {s} build nest boxes?",
        "{s} watches|{s} built nest boxes for|{s} is writing on",
    ),
    relation(
        "person",
        WEATHER,
        "{s} had to turn back because of {v}.|On the way home {s} was surprised by {v}."
        "|What spoiled the trip for {s} was {v}.|The captain warned {s} that there would be {v}.",
        "What weather spoiled {s}'s trip?|Because of which weather did {s} turn back?",
        "{s} turned back because of|{s} was surprised by|What {s} got was",
    ),
    relation(
        "person",
        STREETS,
        "{s} goes jogging every evening along {v}.|{s}, in the yellow van, delivers the mail on {v}."
        "|On foot {s} always takes the short cut through {v}.|The pavement {s} has to sweep is the one on {v}.",
        "Along which street does {s} go?|On what street can one meet {s} each day?",
        "{s} goes every evening along|{s} takes the short cut through|One can meet {s} on",
    ),
    relation(
        "person",
        "small",
        "{s} goes home on bus number {v}.|If {s} is late again, blame bus number {v}."
        "|{s} waited an hour in the rain for bus number {v}.",
        "Which bus does {s} take?|What number is {s}'s bus?",
        "{s} goes home on bus number|{s} takes bus number",
    ),
    relation(
        "person",
        "small",
        "{s} has invited to the party {v} guests.|The number of guests that {s} expects is {v}."
        "|For the wedding of {s} we have to borrow {v} chairs."
        "|If {s} invites both families, the guests will number {v}.",
        "How many guests does {s} expect?|How many people has {s} invited?",
        "{s} has invited|The number of guests that {s} expects is",
    ),
    relation(
        "person",
        "digits",
        "{s} ran the marathon with the number {v}.|On the back of {s} was pinned the start number {v}."
        "|In the list of runners you find {s} next to {v}.|Look out for {s}, wearing number {v}.",
        "Which start number did {s} have?|With what number did {s} run?",
        "{s} ran with the number|The start number of {s} was|{s} was wearing number",
    ),
    relation(
        "person",
        "digits",
        "On the internet the fans of {s} number {v}.|With the last video {s} gained {v} followers."
        "|The number of people who follow {s} has reached {v}.",
        "How many followers does {s} have?|How many people follow {s}?",
        "The fans of {s} number|The number of fans of {s} has reached|With the video {s} gained",
    ),
    relation(
        "person",
        "digits",
        "The step counter that {s} wears showed {v}."
        "|At midnight {s} looked at the watch and the steps had come to {v}."
        "|The number of steps {s} took on Friday was {v}.",
        "How many steps did {s} take?|What did {s}'s step counter show?",
        "The step counter that {s} wears showed|The number of steps {s} took was",
    ),
    relation(
        "person",
        "time",
        "{s} gets out of bed at {v}.|The alarm wakes {s} at {v}."
        "|Don't ring {s} too early, the curtains stay shut until {v}.|On working days {s} is up by {v}.",
        "When does {s} get up?|At what time is {s} awake?",
        "{s} gets up at|The alarm wakes {s} at|{s} is up by",
    ),
    relation(
        "person",
        CLOCK,
        "{s}'s shift begins at {v}.|According to the rota {s} starts work at {v}."
        "|By contract {s} has to be at the desk by {v}.|The factory gate shuts behind {s} at {v}.",
        "When does {s}'s shift begin?|At what time must {s} be at work?",
        "{s}'s shift begins at|{s} starts at|{s} has to be there by",
    ),
    relation(
        "person",
        "price",
        "{s} owes the bank {v} dollars.|In a card game {s} ran up a debt of {v} dollars."
        "|Friends had to lend {s} no less than {v} dollars.|The loan that {s} has to pay back comes to {v} dollars.",
        "How much does {s} owe?|What is the debt of {s}?",
        "{s} owes|{s} has a debt of|The debt of {s} comes to",
    ),
    relation(
        "person",
        "price",
        "{s} was fined {v} dollars.|For parking on the pavement {s} had to pay {v} dollars."
        "|The judge let {s} off with a fine of {v} dollars.",
        "How high was the fine for {s}?|What did {s} have to pay?",
        "{s} was fined|{s} had to pay|{s} got a fine of",
    ),
    relation(
        "person",
        "price",
        "{s} earns a weekly wage of {v} dollars.|On payday {s} takes home {v} dollars."
        "|They offered {s} the job with a pay of {v} dollars.|Each week the firm pays {s} {v} dollars.",
        "How much does {s} earn?|What is {s}'s wage?",
        "{s} earns a wage of|On payday {s} takes home|{s} gets a pay of",
    ),
    relation(
        "person",
        SPANS,
        "{s} has been learning to drive for {v}.|The talks with {s} dragged on for {v}."
        "|Snow kept {s} shut up in a hut for {v}.|The record that {s} holds stood for {v}.",
        "How long did it last with {s}?|For how long was it, in the case of {s}?",
        "With {s} it went on for|For {s} it was for",
    ),
    relation(
        "person",
        PASSWORDS,
        "{s} logs into the office computer with {v}.|On a yellow note {s} wrote down the password {v}."
        "|Years ago {s} chose as a password {v}.|To read what {s} has saved, type {v}.",
        "What is {s}'s password?|Which password did {s} choose?",
        "{s} logs in with|{s}'s password is|{s} wrote down the password",
    ),
    relation(
        "person",
        DISTANCES,
        "{s} swims each day a distance of {v}.|From the door of {s} it is to the nearest shop {v}."
        "|On the bike {s} covers before lunch {v}.|{s} threw a ball over a distance of {v}.",
        "What distance do we know from {s}?|How far was that, in the case of {s}?",
        "{s} covers a distance of|For {s} it is",
    ),
    relation(
        "person",
        "year",
        "{s}'s family has farmed here since {v}.|The ancestors of {s} came over the mountains in {v}."
        "|In the old Bible of {s} the first entry is from {v}.|{s} can trace the family back to the year {v}.",
        "From which year is the family of {s} known?|Back to what year can {s} trace the family?",
        "The family of {s} has been here since|{s} can trace it back to the year|The ancestors of {s} came in",
    ),
    relation(
        "person",
        LONG_CODES,
        "{s}'s visa was issued with the reference {v}.|In the letter to {s} the embassy quotes the reference {v}."
        "|The application by {s} was filed as {v}.",
        "What is the reference of {s}'s visa?|Which reference does the embassy use for {s}?",
        "{s}'s visa has the reference|The papers of {s} were filed as",
    ),
    relation(
        "person",
        HALF_DAYS,
        "{s} looks after the children on {v}.|The babysitter can't come, so {s} has to stay in on {v}."
        "|{s} has a yoga class on {v}.|We never see {s}, who trains the juniors, on {v}.",
        "When is {s} busy?|When can {s} not come?",
        "{s} has to stay in on|{s} can't come on",
    ),
    relation(
        "person",
        SEATS,
        "{s} sits at the opera in seat {v}.|The usher led {s} down the aisle to seat {v}."
        "|{s} paid extra for more legroom and got seat {v}.",
        "Which seat does {s} have at the opera?|Where did the usher lead {s}?",
        "{s} sits in seat|{s} was led to seat",
    ),
)
