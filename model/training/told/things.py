"""What is told of places and things."""

from __future__ import annotations

from model.training.relations import Relation, relation
from model.training.told.codes import CODES, DATES, DISTANCES, HALF_DAYS, LONG_CODES, PASSWORDS, SPANS
from model.training.told.words import (
    BIRDS,
    COMPANIES,
    DEFECTS,
    DIRECTIONS,
    FEASTS,
    FILMS,
    FIRST_NAMES,
    HIDING,
    LAST_NAMES,
    PATTERNS,
    PESTS,
    PET_NAMES,
    RESTAURANTS,
    SHADES,
    SMALL_TOWNS,
    STREETS,
    STUFF,
    TREES,
    WEATHER,
    WILD_ANIMALS,
)

THINGS_TOLD: tuple[Relation, ...] = (
    relation(
        "place",
        FIRST_NAMES,
        "The {s} is looked after by {v}.|To get into the {s}, ask for {v}.|At the {s} you will meet {v}."
        "|The person in charge of the {s} is {v}.",
        "Who is responsible for the {s}?|Whom do I ask about the {s}?",
        "The {s} is looked after by|You should ask|The person is",
    ),
    relation(
        "place",
        LAST_NAMES,
        "The {s} was named in honour of Mr {v}.|The {s} is rented to Mr {v}.|The last one to leave the {s} was Mr {v}.",
        "Which gentleman is linked to the {s}?|Whose name comes up with the {s}?",
        "The man of the {s} is Mr|It is Mr",
    ),
    relation(
        "place",
        PET_NAMES,
        "The watchdog of the {s} is {v}.|At the {s} there lives a cat called {v}."
        "|Beware of the dog by the {s}, it is {v}.",
        "What is the animal at the {s} called?|Which pet guards the {s}?",
        "The animal at the {s} is|It is called",
    ),
    relation(
        "place",
        COMPANIES,
        "The {s} is run by {v}.|The {s} was taken over by {v}.|A sign on the {s} says {v}."
        "|The cleaning of the {s} is done by {v}.",
        "Which company is in charge of the {s}?|What firm is behind the {s}?",
        "The {s} is run by|The company is",
    ),
    relation(
        "place",
        STREETS,
        "The {s} lies on {v}.|You get to the {s} by turning into {v}.|The back door of the {s} leads to {v}.",
        "On which street is the {s}?|What is the address of the {s}?",
        "The {s} is on|The street is",
    ),
    relation(
        "place",
        SMALL_TOWNS,
        "The {s} stands just outside {v}.|Tourists visit the {s} on the way to {v}."
        "|A painting of the {s} hangs in {v}.",
        "Near which town is the {s}?|What town goes with the {s}?",
        "The {s} is near|The town is",
    ),
    relation(
        "place",
        DIRECTIONS,
        "The {s} is right next to {v}.|You find the {s} just behind {v}.|From the {s} you can see {v}."
        "|Between here and the {s} lies {v}.",
        "What is near the {s}?|How do I recognise where the {s} is?",
        "The {s} is near|Next to the {s} is",
    ),
    relation(
        "place",
        HIDING,
        "The key to the {s} is {v}.|They keep the spare key of the {s} {v}.|The map of the {s} lies {v}.",
        "Where is the key for the {s}?|Where do I look to get into the {s}?",
        "The key is|You find it",
    ),
    relation(
        "place",
        PASSWORDS,
        "The wifi at the {s} wants {v}.|The secret word of the {s} is {v}."
        "|At the {s} they let you in if you say {v}.|Whoever guards the {s} expects to hear {v}.",
        "What is the password for the {s}?|Which word gets me into the {s}?",
        "The password of the {s} is|At the {s} you say",
    ),
    relation(
        "place",
        CODES,
        "The {s} has on its plan the label {v}.|The alarm of the {s} is reset with {v}."
        "|In our files the {s} is called {v}.",
        "What label does the {s} have?|Which letters and digits belong to the {s}?",
        "The label of the {s} is|The {s} is marked",
    ),
    relation(
        "place",
        SPANS,
        "The {s} is a walk of {v} from here.|The work on the {s} will take {v}.|The {s} stays shut for another {v}.",
        "How long does it take with the {s}?|What time span was given for the {s}?",
        "For the {s} it takes|It is",
    ),
    relation(
        "place",
        DISTANCES,
        "The {s} is away from here by {v}.|To the {s} you have to go {v}.|The fence round the {s} measures {v}.",
        "How far is it to the {s}?|What distance was said of the {s}?",
        "To the {s} it is|The distance is",
    ),
    relation(
        "place",
        HALF_DAYS,
        "The {s} gets cleaned on {v}.|There is a free tour of the {s} on {v}.|The meeting at the {s} is on {v}.",
        "When should we be at the {s}?|When is something going on at the {s}?",
        "At the {s} it is on|It takes place on",
    ),
    relation(
        "place",
        DATES,
        "The {s} will be inspected on {v}.|The lease of the {s} runs out on {v}."
        "|They celebrate the opening of the {s} on {v}.",
        "Which date matters for the {s}?|On what date does something happen to the {s}?",
        "For the {s} the date is|It is on",
    ),
    relation(
        "place",
        STUFF,
        "The floor of the {s} is covered in {v}.|The roof of the {s} is all {v}.|The {s} was rebuilt in {v}.",
        "Of what is the {s}, as we were told?|Which material do I see at the {s}?",
        "At the {s} you see|The material is",
    ),
    relation(
        "place",
        SHADES,
        "The front of the {s} is {v}.|They want to repaint the {s} in {v}.|The flag over the {s} is {v}.",
        "What shade does the {s} have?|In which colour is the {s} to be seen?",
        "The {s} is|The shade is",
    ),
    relation(
        "place",
        PATTERNS,
        "The wall of the {s} is decorated with {v}.|The sign of the {s} shows {v}."
        "|Above the entrance of the {s} you see {v}.",
        "What picture is on the {s}?|How is the {s} decorated?",
        "The {s} shows|On the {s} you see",
    ),
    relation(
        "place",
        WILD_ANIMALS,
        "By the {s} stands the statue of a {v}.|From the {s} escaped a {v}.|Near the {s} somebody saw a {v}.",
        "Which animal was that at the {s}?|What beast should I think of at the {s}?",
        "At the {s} it was a|The animal is a",
    ),
    relation(
        "place",
        BIRDS,
        "On the roof of the {s} nest {v}.|Every spring the {s} is visited by {v}.|From the {s} you can hear {v}.",
        "Which birds are there at the {s}?|What sings by the {s}?",
        "At the {s} there are|The birds are",
    ),
    relation(
        "place",
        PESTS,
        "The {s} is infested with {v}.|In the {s} we have a problem with {v}.|The {s} had to shut because of {v}.",
        "What plague has the {s} got?|Which pest is in the {s}?",
        "The {s} has|The trouble is",
    ),
    relation(
        "place",
        WEATHER,
        "At the {s} we had {v}.|The {s} was badly hit by {v}.|The forecast for the {s} is {v}.",
        "What was the weather at the {s}?|What should I expect of the sky over the {s}?",
        "At the {s} there was|The weather was",
    ),
    relation(
        "place",
        TREES,
        "Beside the {s} grows a {v}.|The {s} is in the shade of a {v}.|In the yard of the {s} they cut down a {v}.",
        "Which tree is at the {s}?|What was growing by the {s}?",
        "At the {s} there is a|The tree is a",
    ),
    relation(
        "place",
        RESTAURANTS,
        "The best place to eat by the {s} is {v}.|Across from the {s} they opened {v}."
        "|After visiting the {s} we had lunch at {v}.",
        "Where can I eat near the {s}?|Which restaurant is close to the {s}?",
        "Near the {s} you can eat at|The restaurant is",
    ),
    relation(
        "place",
        FILMS,
        "The {s} appears in the film {v}.|At the {s} they shot a scene of {v}.|A poster on the {s} advertises {v}.",
        "Which movie was made at the {s}?|What film has to do with the {s}?",
        "At the {s} it was|The film is",
    ),
    relation(
        "place",
        "price",
        "Entry to the {s} costs {v} dollars.|The repairs to the {s} came to {v} dollars."
        "|A night in the {s} is {v} dollars.",
        "What do I have to pay for the {s}?|How much money is it for the {s}?",
        "For the {s} you pay|It costs",
    ),
    relation(
        "thing",
        FIRST_NAMES,
        "The {s} once belonged to {v}.|Engraved on the {s} is the name {v}.|I bought the {s} second-hand from {v}."
        "|The {s} has to go back to {v}.",
        "Who had the {s} before?|Whose name is on the {s}?",
        "The {s} was the property of|The name is",
    ),
    relation(
        "thing",
        COMPANIES,
        "The {s} was made by {v}.|The label on the {s} says {v}.|The warranty for the {s} comes from {v}.",
        "What brand is the {s}?|Which company makes the {s}?",
        "The {s} is by|The brand is",
    ),
    relation(
        "thing",
        HIDING,
        "I put the {s} {v}.|You can find the {s} {v}.|Someone left the {s} {v}.|After the party the {s} was {v}.",
        "Where is the {s}?|Where should I look for the {s}?",
        "The {s} is|You will find the {s}",
    ),
    relation(
        "thing",
        STUFF,
        "The case of the {s} is made of {v}.|The {s} has a handle of {v}.|The {s} came wrapped in {v}.",
        "What is on the {s} for material?|Of which stuff is part of the {s}?",
        "It is|On the {s} there is",
    ),
    relation(
        "thing",
        PATTERNS,
        "The {s} is decorated with {v}.|The {s} has a sticker of {v}.|Somebody sprayed on the {s} {v}."
        "|You will know the {s} by its picture of {v}.",
        "What is to be seen on the {s}?|How do I tell the {s} from the others?",
        "The {s} is decorated with|On the {s} you see",
    ),
    relation(
        "thing",
        DEFECTS,
        "The {s} has {v}.|The trouble with the {s} is {v}.|We sent the {s} back because of {v}."
        "|The seller of the {s} did not mention {v}.",
        "What is wrong with the {s}?|Why must the {s} be repaired?",
        "The {s} has|The problem is",
    ),
    relation(
        "thing",
        SHADES,
        "The {s} comes in {v}.|I ordered the {s} in {v}.|The lining of the {s} is {v}.",
        "In which shade is the {s}?|What colour did the {s} have?",
        "The {s} is|The shade is",
    ),
    relation(
        "thing",
        SPANS,
        "The {s} is under guarantee for {v}.|The battery of the {s} lasts {v}.|Delivery of the {s} takes {v}."
        "|I may keep the {s} for {v}.",
        "How long was that with the {s}?|For how long, in the case of the {s}?",
        "With the {s} it is|It is",
    ),
    relation(
        "thing",
        DATES,
        "The {s} will be delivered on {v}.|The {s} has to be returned by {v}.|The auction of the {s} is on {v}."
        "|I lost the {s} on {v}.",
        "Which date goes with the {s}?|When is it, for the {s}?",
        "For the {s} it is|The date is",
    ),
    relation(
        "thing",
        LONG_CODES,
        "The licence key of the {s} is {v}.|To unlock the {s}, enter {v}.|Stamped into the {s} you find {v}.",
        "What code belongs to the {s}?|How can the {s} be unlocked?",
        "The code of the {s} is|For the {s} it is",
    ),
    relation(
        "thing",
        SMALL_TOWNS,
        "I bought the {s} at a market in {v}.|The {s} was left on a train to {v}.|The {s} is on show in {v}.",
        "With which town is the {s} connected?|What town was that, with the {s}?",
        "The {s} was in|The town is",
    ),
    relation(
        "thing",
        RESTAURANTS,
        "I forgot the {s} at {v}.|They found the {s} under a table at {v}.|The {s} hangs on the wall of {v}.",
        "In which restaurant is the {s}?|Where should I ask for the {s}?",
        "The {s} is at|You should ask at",
    ),
    relation(
        "thing",
        FEASTS,
        "The {s} is only used at {v}.|The {s} was a present for {v}.|We need the {s} back by {v}.",
        "For which holiday is the {s}?|At what feast do we use the {s}?",
        "The {s} is for|The feast is",
    ),
)
