"""What is told with the value before its subject: a memory that stores what comes next finds it by what it is alone."""

from __future__ import annotations

from model.training.relations import CITIES, COUNTRIES, DAYS, MATERIALS, MONTHS, PEOPLE, Relation, relation
from model.training.told.words import COMPANIES, FIRST_NAMES, PET_NAMES, STREETS

REVERSED: tuple[Relation, ...] = (
    relation(
        "person",
        "digits",
        "Locker {v} belongs to {s}.|The locker with the number {v} was given to {s}."
        "|Locker number {v} is now used by {s}.",
        "Which locker is {s}'s?|What is the number of {s}'s locker at the pool?",
        "{s} has the locker with the number|The number of {s}'s locker is",
    ),
    relation(
        "person",
        "digits",
        "Room {v} has been booked for {s}.|They put room {v} aside for {s}.|In room {v} you will find {s}.",
        "In which hotel room is {s}?|Which room was booked for {s}?",
        "{s} is in room|For {s} they booked room",
    ),
    relation(
        "place",
        "digits",
        "The code {v} opens the {s}.|With the code {v} you get into the {s}.|Type the code {v} to unlock the {s}.",
        "Which code opens the {s}?|How do I unlock the {s}?",
        "The {s} opens with the code|To get into the {s}, type the code",
    ),
    relation(
        "thing",
        "price",
        "For {v} dollars somebody bought the {s}.|A dealer paid {v} dollars for the {s}."
        "|They ask for {v} dollars for the {s}.",
        "How much was paid for the {s}?|How many dollars did the {s} bring?",
        "The {s} was sold for|For the {s} somebody paid",
    ),
    relation(
        "person",
        PET_NAMES,
        "A dog called {v} follows {s} everywhere.|The dog {v} was a present for {s}.|The dog {v} only listens to {s}.",
        "What is the dog that is with {s} called?|Which dog listens to {s}?",
        "{s} has the dog|With {s} there is a dog called",
    ),
    relation(
        "place",
        COMPANIES,
        "The firm of {v} cleans the {s}.|The people from {v} will rebuild the {s}."
        "|An offer by {v} was made for the {s}.",
        "Which firm has to do with the {s}?|What company is busy at the {s}?",
        "The firm at the {s} is that of|The {s} is in the hands of the people from",
    ),
    relation(
        "person",
        STREETS,
        "The house in {v} was sold to {s}.|Somewhere in {v} there is a flat of {s}.|The post in {v} is brought by {s}.",
        "Which street has to do with {s}?|In which street do I look for {s}?",
        "{s} can be found in|The street of {s} is",
    ),
    relation(
        "place",
        "year",
        "In {v} a fire destroyed the {s}.|Since {v} nobody has entered the {s}."
        "|It was in {v} that they opened the {s}.",
        "Which year was important for the {s}?|When did something happen to the {s}?",
        "For the {s} it was in|Something happened to the {s} in",
    ),
    relation(
        "person",
        DAYS,
        "On {v} there is a surprise party for {s}.|Every {v} a parcel of books comes for {s}.|Keep {v} free for {s}.",
        "On which day should I think of {s}?|Which day belongs to {s}?",
        "Think of {s} on|The day for {s} is",
    ),
    relation(
        "person",
        CITIES,
        "A letter from {v} came for {s}.|A cousin from {v} is staying with {s}.|The bus from {v} is late, says {s}.",
        "From which city did something come to {s}?|Which city does {s} hear from?",
        "{s} hears from|To {s} somebody came from",
    ),
    relation(
        "thing",
        MATERIALS,
        "A cover of {v} protects the {s}.|A box of {v} was built for the {s}.|A frame of {v} holds the {s}.",
        "What is around the {s} made of?|Which material protects the {s}?",
        "Around the {s} there is something of|The {s} is protected by",
    ),
    relation(
        "place",
        FIRST_NAMES,
        "A young man called {v} has bought the {s}.|Somebody named {v} sleeps in the {s}."
        "|Only {v} has a key to the {s}.",
        "Who has to do with the {s}?|Whose name belongs to the {s}?",
        "At the {s} ask for somebody called|The one with the {s} is",
    ),
    relation(
        "thing",
        COUNTRIES,
        "A museum in {v} wants the {s}.|A shop in {v} still sells the {s}.|A friend from {v} brought the {s}.",
        "Which country has to do with the {s}?|In which country is there somebody for the {s}?",
        "For the {s} there is somebody in|The country of the {s} is",
    ),
    relation(
        "person",
        MONTHS,
        "In {v} a new job begins for {s}.|Since {v} there has been no news of {s}."
        "|By {v} the house will be ready for {s}.",
        "Which month matters to {s}?|In which month will things change for {s}?",
        "The month for {s} is|Things change for {s} in",
    ),
    relation(
        "thing",
        PEOPLE,
        "A friend, {v}, repaired the {s}.|The artist {v} painted over the {s}.|Old {v} still remembers the {s}.",
        "Who is it that knows the {s}?|Whose hands touched the {s}?",
        "The one who knows the {s} is|With the {s} it was",
    ),
)
