"""What can be said of whom, in several wordings: the relations that a memory is taught with.

None of it is in the evaluation (`held_out.shared_with` is asked in the tests). It knows nothing of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Subject = Literal["person", "place", "thing", "self"]


def words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|")) if "|" in text else tuple(text.split())


PEOPLE = words(
    """Anna Boris Carla Dmitri Elena Farid Greta Hassan Irene Jonas Karim Laura Miguel Nadia Oscar Petra Ravi Sofia
    Tomas Ursula Victor Wendy Xavier Yasmin Zach Alice Bruno Chloe Derek Emma Felix Gloria Harold Isabel Julian Keiko
    Liam Monica Nathan Olga Pablo Quincy Rachel Samuel Tanya Umberto Vera Walter Yuki Zoe Adrian Bianca Colin Daphne
    Edgar Fiona Gustav Helen Ivan Joanna Kurt Lydia Marcus Noelle Owen Paula Ruben Sandra Theo Valerie Wade Aisha Bjorn
    Celeste Dario Esther Frank Gina Hugo Ingrid Jamal Kira Lorenzo Mei Nils Oona Pierre Renata Stefan Thelma Ugo Vivian
    Werner Ximena Yusuf Zora Agnes Benoit Camila Desmond Edith Fernando Gwen Heinrich"""
)
SURNAMES = words(
    """Abbott Becker Castro Dalton Eriksen Fischer Gomez Hansen Ibrahim Jensen Keller Lopez Meyer Novak Okafor Petrov
    Quinn Rossi Schmidt Tanaka Underwood Vargas Weber Young Zimmer Moreau Larsen Kowalski Haddad Ferrari"""
)
ROLES = words(
    "my brother|my sister|my boss|my neighbour|my teacher|our landlord|my cousin|my best friend|our plumber|my dentist"
    "|my aunt|the new intern|the team leader|my grandfather|our accountant|the tall librarian"
)
ADJECTIVES = words(
    """red blue green silver golden hidden secret old new small large quiet loud bright dark cold warm royal northern
    southern eastern western broken central upper lower ancient modern wooden stone"""
)
PLACES = words(
    """door vault river castle garden engine ship tower bridge library server account safe locker station forest market
    island theatre museum factory warehouse hotel school harbour kitchen office bakery farm laboratory archive"""
)
THINGS = words(
    """laptop suitcase bicycle camera notebook telephone printer guitar backpack wallet trolley radio telescope jacket
    clock painting statue sofa lantern kettle projector drill"""
)

COLOURS = words("crimson turquoise purple orange beige violet indigo scarlet maroon teal pink brown yellow grey white")
SPORTS = words("tennis|hockey|rugby|golf|badminton|volleyball|chess|cricket|archery|fencing|judo|baseball|rowing")
DRINKS = words("coffee|lemonade|cocoa|cider|espresso|whisky|milk|ginger ale|green tea|tomato juice|champagne|beer")
LANGUAGES = words("Japanese|Swahili|Finnish|Arabic|Portuguese|Korean|Hindi|Turkish|Welsh|Greek|Polish|Hebrew|Dutch")
JOBS = words(
    "nurse|carpenter|pilot|lawyer|butcher|baker|surgeon|farmer|journalist|plumber|chemist|dancer|judge|soldier"
    "|programmer|gardener|photographer|locksmith|tailor|translator"
)
COUNTRIES = words(
    "Canada|Brazil|Kenya|Vietnam|Iceland|Morocco|Chile|Nepal|Egypt|Mexico|Ireland|Thailand|Peru|Ghana|Cuba|India|Spain"
)
CITIES = words(
    "Chicago|Tokyo|Madrid|Cairo|Boston|Sydney|Lima|Toronto|Berlin|Nairobi|Seoul|Havana|Dallas|Mumbai|Bogota|Denver"
    "|London|Paris|Rome|Kyoto|Austin|Zurich|Warsaw|Beirut"
)
PETS = words("dog|cat|parrot|rabbit|goldfish|hamster|pony|turtle|snake|canary|spider|goat|pig|duck|lizard|monkey")
DISHES = words(
    "lasagna|curry|sushi|tacos|risotto|goulash|paella|pizza|ramen|meatloaf|fried rice|roast chicken|bean soup|waffles"
    "|cheesecake|apple pie|spaghetti|dumpling soup|grilled salmon|potato salad"
)
MATERIALS = words("copper|marble|leather|bamboo|glass|iron|cotton|wool|bronze|plastic|rubber|clay|paper|silk|steel")
FLOWERS = words("roses|tulips|daisies|lilies|orchids|sunflowers|violets|irises|poppies|lavender|daffodils|peonies")
VEHICLES = words("tractor|motorcycle|taxi|tram|helicopter|van|truck|scooter|canoe|sailboat|bus|limousine|balloon")
MONTHS = words("January February March April May June July August September October November December")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MUSIC = words("jazz|opera|reggae|blues|techno|folk songs|punk rock|hip hop|country music|waltzes|gospel|salsa")
SUBJECTS = words(
    "biology|algebra|astronomy|geology|philosophy|economics|geometry|grammar|botany|chemistry|history|law|medicine"
)
OBJECTS = words(
    "hammer|candle|ladder|mirror|pillow|blanket|compass|rope|bottle|scarf|mask|coin|map|needle|shovel|whistle|feather"
    "|button|ribbon|kite|drum|basket|thermos|magnet|brush"
)


@dataclass(frozen=True, slots=True)
class Relation:
    """One thing that can be said of a subject. values: words; or the name of a kind of number (`lessons`).

    facts, questions, leads: wordings with {s} for the subject and, in facts, {v} for the value, which a lead ends
    just before.
    """

    subject: Subject
    values: tuple[str, ...] | str
    facts: tuple[str, ...]
    questions: tuple[str, ...]
    leads: tuple[str, ...]


def relation(subject: Subject, values: tuple[str, ...] | str, facts: str, questions: str, leads: str) -> Relation:
    facts_, questions_, leads_ = (tuple(p.strip() for p in t.split("|")) for t in (facts, questions, leads))
    return Relation(subject, values, facts_, questions_, leads_)


WRITTEN = (
    relation(
        "person",
        COLOURS,
        "{s}'s favourite colour is {v}.|The colour {s} likes best is {v}.|{s} loves the colour {v}.",
        "What is {s}'s favourite colour?|Which colour does {s} like most?",
        "{s}'s favourite colour is|The colour {s} likes is|{s} likes",
    ),
    relation(
        "person",
        SPORTS,
        "{s} spends every weekend on {v}.|The sport {s} does is {v}.|{s} is very good at {v}.",
        "What sport does {s} do?|What is {s} good at?",
        "{s} does|The sport is|{s} is good at",
    ),
    relation(
        "person",
        DRINKS,
        "{s} always orders {v}.|In the morning {s} drinks {v}.|{s} can't start the day without {v}.",
        "What does {s} drink?|What should I order for {s}?",
        "{s} drinks|For {s} you should order|It is",
    ),
    relation(
        "person",
        LANGUAGES,
        "{s} is learning {v}.|At home {s} speaks {v}.|{s} reads novels in {v}.",
        "Which language does {s} know?|What language does {s} speak?",
        "{s} speaks|The language is|{s} knows",
    ),
    relation(
        "person",
        JOBS,
        "{s} works as a {v}.|{s} has a job as a {v}.|By profession {s} is a {v}.",
        "What is {s}'s job?|What does {s} do for a living?",
        "{s} works as a|{s} is a|For a living {s} is a",
    ),
    relation(
        "person",
        COUNTRIES,
        "{s} was born in {v}.|{s} comes from {v}.|The family of {s} is from {v}.",
        "Where was {s} born?|Which country is {s} from?",
        "{s} was born in|{s} comes from|{s} is from",
    ),
    relation(
        "person",
        CITIES,
        "{s} lives in {v}.|{s} has a flat in {v}.|The home of {s} is in {v}.",
        "Where does {s} live?|In which city does {s} live?",
        "{s} lives in|The city is|{s}'s home is in",
    ),
    relation(
        "person",
        CITIES,
        "{s} is flying to {v} on holiday.|For the holidays {s} booked a trip to {v}.",
        "Where is {s} going on holiday?|Where will {s} fly?",
        "{s} is going to|{s} will fly to",
    ),
    relation(
        "person",
        PETS,
        "{s} has a {v} at home.|{s} keeps a {v}.|Last year {s} adopted a {v}.",
        "What pet does {s} have?|Which animal lives with {s}?",
        "{s} has a|The pet is a|{s} keeps a",
    ),
    relation(
        "person",
        DISHES,
        "{s} cooked {v} for dinner.|The best dish {s} makes is {v}.|For lunch {s} had {v}.",
        "What did {s} eat?|Which dish did {s} make?",
        "{s} made|It was|The dish was",
    ),
    relation(
        "person",
        MUSIC,
        "{s} listens to {v} all day.|{s} is a great fan of {v}.|The radio of {s} plays only {v}.",
        "What music does {s} like?|What does {s} listen to?",
        "{s} listens to|{s} likes",
    ),
    relation(
        "person",
        SUBJECTS,
        "{s} studies {v}.|At university {s} chose {v}.|{s} wrote a book about {v}.",
        "What does {s} study?|What subject did {s} choose?",
        "{s} studies|The subject is|{s} chose",
    ),
    relation(
        "person",
        OBJECTS,
        "{s} lost a {v} yesterday.|{s} forgot a {v} on the train.",
        "What did {s} lose?|What is {s} looking for?",
        "{s} lost a|{s} is looking for a",
    ),
    relation(
        "person",
        OBJECTS,
        "{s} gave me a {v} for my birthday.|The present from {s} was a {v}.",
        "What was {s}'s present?|What did {s} give me?",
        "{s} gave you a|The present was a",
    ),
    relation(
        "person",
        VEHICLES,
        "{s} came by {v}.|{s} drives a {v}.|{s} bought a {v}.",
        "What does {s} drive?|How did {s} travel?",
        "{s} drives a|{s} came by",
    ),
    relation(
        "person",
        DAYS,
        "{s} will visit us on {v}.|{s} has the day off on {v}.|The appointment with {s} is on {v}.",
        "On which day is {s} coming?|When do I meet {s}?",
        "{s} is coming on|The day is|It is on",
    ),
    relation(
        "person",
        MONTHS,
        "{s}'s birthday is in {v}.|{s} was born in the month of {v}.|{s} is getting married in {v}.",
        "In which month is {s}'s day?|Which month matters to {s}?",
        "It is in|The month is|{s}'s month is",
    ),
    relation(
        "person",
        PEOPLE,
        "{s} is married to {v}.|{s}'s best friend is {v}.|{s} shares a flat with {v}.",
        "Who is close to {s}?|Who belongs to {s}?",
        "{s} belongs with|The person close to {s} is",
    ),
    relation(
        "person",
        SURNAMES,
        "{s}'s last name is {v}.|The full name of {s} is {s} {v}.|On the form {s} signed as {v}.",
        "What is {s}'s surname?|What is {s}'s family name?",
        "{s}'s surname is|The family name of {s} is",
    ),
    relation(
        "person",
        "digits",
        "{s}'s phone number is {v}.|You can reach {s} at {v}.|Call {s} under {v}.",
        "What is {s}'s phone number?|How can {s} be reached?",
        "{s}'s number is|The phone number of {s} is|{s} can be reached at",
    ),
    relation(
        "person",
        "digits",
        "{s}'s badge has the number {v}.|{s} was given the ID {v}.|The employee number of {s} is {v}.",
        "What is {s}'s badge number?|Which ID does {s} have?",
        "{s}'s badge number is|The ID of {s} is",
    ),
    relation(
        "person",
        "small",
        "{s} is {v} years old.|{s} turned {v} last week.",
        "How old is {s}?|What is {s}'s age?",
        "{s} is|{s}'s age is",
    ),
    relation(
        "person",
        "small",
        "{s} lives in room {v}.|The hotel put {s} in room {v}.|{s} sits at desk {v}.",
        "Which room is {s} in?|Where does {s} sit?",
        "{s} is in number|{s} has number",
    ),
    relation(
        "place",
        "digits",
        "The {s} code is {v}.|The code of the {s} is {v}.|To open the {s}, type {v}.",
        "What is the {s} code?|What is the code for the {s}?",
        "The {s} code is|The code is|For the {s} the code is",
    ),
    relation(
        "place",
        "digits",
        "The {s} is on page {v}.|The {s} has the serial number {v}.|The {s} is registered as {v}.",
        "What is the number of the {s}?|Under which number do I find the {s}?",
        "The number of the {s} is|The {s} has the number",
    ),
    relation(
        "place",
        "year",
        "The {s} was built in {v}.|Since {v} the {s} has been here.|The {s} burned down in {v}.",
        "In which year did it happen to the {s}?|Which year belongs to the {s}?",
        "The year of the {s} is|For the {s} it was",
    ),
    relation(
        "place",
        "time",
        "The {s} opens at {v}.|The guide meets us at the {s} at {v}.|The {s} closes at {v}.",
        "At what time should I be at the {s}?|What is the time for the {s}?",
        "The time for the {s} is|Be at the {s} at",
    ),
    relation(
        "place",
        MATERIALS,
        "The {s} is made of {v}.|They covered the {s} with {v}.|The walls of the {s} are of {v}.",
        "What is the {s} made of?|Which material was used for the {s}?",
        "The {s} is made of|The material of the {s} is",
    ),
    relation(
        "place",
        PEOPLE,
        "The {s} belongs to {v}.|The owner of the {s} is {v}.|{v} has the keys of the {s}.",
        "Who owns the {s}?|Who has the keys of the {s}?",
        "The {s} belongs to|The owner of the {s} is",
    ),
    relation(
        "place",
        FLOWERS,
        "In front of the {s} there are {v}.|Somebody planted {v} beside the {s}.",
        "Which flowers are at the {s}?|What grows near the {s}?",
        "Near the {s} there are|At the {s} grow",
    ),
    relation(
        "place",
        OBJECTS,
        "In the {s} I hid a {v}.|There is a {v} under the {s}.|The {s} contains a {v}.",
        "What is in the {s}?|What was hidden at the {s}?",
        "In the {s} there is a|The {s} has a",
    ),
    relation(
        "thing",
        COLOURS,
        "The {s} is {v}.|They painted the {s} {v}.|I bought a {v} {s}.",
        "What colour is the {s}?|Which colour does the {s} have?",
        "The {s} is|The colour of the {s} is",
    ),
    relation(
        "thing",
        "price",
        "The {s} costs {v} dollars.|For the {s} I paid {v} dollars.|The price of the {s} is {v} dollars.",
        "How much is the {s}?|What does the {s} cost?",
        "The {s} costs|The price of the {s} is",
    ),
    relation(
        "thing",
        PEOPLE,
        "I lent the {s} to {v}.|The {s} was stolen by {v}.|The {s} is a gift for {v}.",
        "Who got the {s}?|Who has the {s} now?",
        "The {s} went to|The {s} is with",
    ),
    relation(
        "thing",
        "digits",
        "The password of the {s} is {v}.|The PIN for the {s} is {v}.",
        "What is the password of the {s}?|Which PIN does the {s} have?",
        "The password of the {s} is|The PIN of the {s} is",
    ),
    relation(
        "self",
        PEOPLE,
        "My name is {v}.|I am called {v}.|You can call me {v}.",
        "What is my name?|What am I called?",
        "Your name is|You are called",
    ),
    relation(
        "self",
        CITIES,
        "I live in {v}.|My home is {v}.|I moved here from {v}.",
        "Where do I live?|Which city did I mention as mine?",
        "You live in|Your city is",
    ),
    relation(
        "self",
        JOBS,
        "I work as a {v}.|I earn my money as a {v}.",
        "What is my job?|What do I work as?",
        "You work as a|You are a",
    ),
    relation(
        "self",
        DISHES,
        "My favourite food is {v}.|I could eat {v} every day.",
        "What is my favourite food?|What do I like to eat?",
        "Your favourite food is|You like",
    ),
    relation(
        "self",
        PETS,
        "I have a {v}.|My pet is a {v}.",
        "What pet do I have?|Which animal do I own?",
        "You have a|Your pet is a",
    ),
)
