"""What is told of other people: whom they know, where they are, what they do."""

from __future__ import annotations

from model.training.relations import Relation, relation
from model.training.told.words import (
    CAREERS,
    CODE_NAMES,
    COMPANIES,
    DANCES,
    FIRST_JOBS,
    FIRST_NAMES,
    GOALS,
    HOBBIES,
    LANDS,
    LAST_NAMES,
    NICKNAMES,
    PET_NAMES,
    PLANS,
    ROUTINES,
    SCHOOLS,
    SMALL_TOWNS,
    STREETS,
    TEAMS,
)

PEOPLE_TOLD: tuple[Relation, ...] = (
    relation(
        "person",
        FIRST_NAMES,
        "{s}'s wife is called {v}.|{s} has a wonderful wife, {v}.|The woman that {s} married is {v}."
        "|Last summer {s} proposed to {v}.",
        "Who is the wife of {s}?|Whom did {s} marry?",
        "{s}'s wife is|{s} married",
    ),
    relation(
        "person",
        FIRST_NAMES,
        "{s}'s son is named {v}.|{s} has a little boy, {v}.|The baby of {s} was christened {v}."
        "|Every day {s} takes a son called {v} to nursery.",
        "What is the boy of {s} called?|What is the name of {s}'s child?",
        "{s}'s son is|The boy's name is",
    ),
    relation(
        "person",
        FIRST_NAMES,
        "{s} has a twin called {v}.|The twin of {s} is {v}.|People always mistake {s} for {v}, the twin.",
        "Who looks just like {s}?|What is the name of {s}'s twin?",
        "{s}'s twin is|The twin is called",
    ),
    relation(
        "person",
        FIRST_NAMES,
        "{s} is secretly in love with {v}.|{s} has a crush on {v}.|Love letters are written by {s} to {v}.",
        "For whom does {s} have feelings?|Who has {s}'s heart?",
        "{s} is in love with|{s} loves",
    ),
    relation(
        "person",
        FIRST_NAMES,
        "{s} reports to {v}.|The manager of {s} is {v}.|{s}'s new boss is called {v}."
        "|At work {s} gets orders from {v}.",
        "Who is {s}'s superior?|Who tells {s} what to do?",
        "{s}'s boss is|{s} reports to",
    ),
    relation(
        "person",
        FIRST_NAMES,
        "{s} shares a taxi with {v}.|{s} gets a lift to work from {v}.|Each day {s} rides in the car of {v}.",
        "Who gives {s} a lift?|With whom does {s} ride to work?",
        "{s} rides with|{s} gets a lift from",
    ),
    relation(
        "person",
        FIRST_NAMES,
        "{s} had a bad quarrel with {v}.|{s} is no longer speaking to {v}.|There is a long feud between {s} and {v}.",
        "With whom is {s} angry?|Who is the enemy of {s}?",
        "{s} quarrelled with|{s} is angry with",
    ),
    relation(
        "person",
        LAST_NAMES,
        "{s} is a patient of Dr {v}.|{s}'s doctor is Dr {v}.|Once a month {s} goes to see Dr {v}.",
        "Which doctor does {s} go to?|Who treats {s}?",
        "{s}'s doctor is Dr|{s} is treated by Dr",
    ),
    relation(
        "person",
        LAST_NAMES,
        "{s}'s thesis is supervised by Professor {v}.|{s} attends the lectures of Professor {v}."
        "|At college {s} is the assistant of Professor {v}.",
        "Which professor does {s} work with?|Whose lectures does {s} hear?",
        "{s} works with Professor|{s}'s professor is Professor",
    ),
    relation(
        "person",
        NICKNAMES,
        "{s}'s nickname is {v}.|Everybody calls {s} simply {v}.|In the army {s} was known as {v}."
        "|{s} signs messages to friends with {v}.",
        "By what nickname is {s} known?|What do friends call {s}?",
        "{s} is known as|The nickname is",
    ),
    relation(
        "person",
        PET_NAMES,
        "{s}'s dog is called {v}.|{s} has a dog that listens to {v}."
        "|In the park {s} was looking for a runaway dog, {v}.",
        "What is the name of the dog of {s}?|What does {s} call the dog?",
        "{s}'s dog is|The dog is called",
    ),
    relation(
        "person",
        PET_NAMES,
        "{s} has a horse by the name of {v}.|The pony that {s} rides is {v}."
        "|At the race {s} put all the money on a horse called {v}.",
        "Which horse is {s}'s?|What is the horse of {s} called?",
        "{s}'s horse is|The horse is called",
    ),
    relation(
        "person",
        SMALL_TOWNS,
        "{s} spent the childhood years in {v}.|{s}'s home town is {v}.|The parents of {s} raised their family in {v}.",
        "Where did {s} spend the early years?|Which town does {s} call home?",
        "{s}'s home town is|{s} is from",
    ),
    relation(
        "person",
        SMALL_TOWNS,
        "{s} opened a shop in {v}.|{s} has a small business in {v}.|The store that {s} runs is in {v}.",
        "In which town is {s}'s shop?|Where can we find the store of {s}?",
        "The shop is in|{s}'s shop is in",
    ),
    relation(
        "person",
        SMALL_TOWNS,
        "{s} is at a conference in {v}.|This week {s} is away on business in {v}.|{s} had to travel for work to {v}.",
        "Where is {s} this week?|Where did the business trip take {s}?",
        "{s} is in|{s} travelled to",
    ),
    relation(
        "person",
        SMALL_TOWNS,
        "{s} missed the last train to {v}.|{s} is stuck at the station in {v}.|{s} was seen by chance in {v}.",
        "Where was {s} seen?|In what town is {s} stuck?",
        "{s} is in|{s} was seen in",
    ),
    relation(
        "person",
        LANDS,
        "{s} did the military service in {v}.|{s} was stationed for two years in {v}."
        "|As a soldier {s} was sent to {v}.",
        "In which country was {s} a soldier?|Where was {s} stationed?",
        "{s} served in|{s} was stationed in",
    ),
    relation(
        "person",
        LANDS,
        "{s} holds a passport of {v}.|{s} is a citizen of {v}.|Last year {s} was granted citizenship by {v}.",
        "What nationality does {s} have, from which country?|Whose passport does {s} carry?",
        "{s} is a citizen of|{s} holds the passport of",
    ),
    relation(
        "person",
        LANDS,
        "{s} volunteered as a teacher in {v}.|After school {s} spent a year abroad in {v}."
        "|An exchange programme took {s} to {v}.",
        "Where did {s} spend the year abroad?|In which country was {s} on exchange?",
        "{s} spent a year in|{s} was in",
    ),
    relation(
        "person",
        STREETS,
        "{s} has an office on {v}.|{s}'s new address is on {v}.|To find {s}, walk down {v}.",
        "On which street can {s} be found?|What is {s}'s address?",
        "{s} is on|The address is on",
    ),
    relation(
        "person",
        STREETS,
        "{s} had an accident on {v}.|{s} was hit by a bike on {v}.|A policeman stopped {s} on {v}.",
        "Where did the accident of {s} happen?|On which street was {s} stopped?",
        "It happened to {s} on|The accident was on",
    ),
    relation(
        "person",
        SCHOOLS,
        "{s} is a teacher at {v}.|{s} got a place at {v}.|{s}'s diploma is from {v}.",
        "Which school does {s} belong to?|Where did {s} get a diploma?",
        "{s} is at|{s}'s school is",
    ),
    relation(
        "person",
        COMPANIES,
        "{s} has a job with {v}.|{s}'s employer is {v}.|{s} was hired last spring by {v}."
        "|The salary of {s} is paid by {v}.",
        "At which company is {s}?|Who employs {s}?",
        "{s} works for|{s}'s employer is",
    ),
    relation(
        "person",
        COMPANIES,
        "{s} bought shares of {v}.|{s} invested all the savings in {v}.|{s} became rich with stocks of {v}.",
        "In what company did {s} invest?|Which shares does {s} hold?",
        "{s} invested in|{s} has shares of",
    ),
    relation(
        "person",
        COMPANIES,
        "{s} was fired by {v}.|{s} is suing a company called {v}.|{s} filed a complaint against {v}.",
        "Which firm has {s} trouble with?|Whom did {s} take to court?",
        "{s} has trouble with|The firm is",
    ),
    relation(
        "person",
        CODE_NAMES,
        "{s} is working on Project {v}.|{s}'s secret mission is called {v}."
        "|The operation that {s} leads goes by the code name {v}.",
        "What is the code name of {s}'s project?|On which project can we find {s}?",
        "{s} works on|{s}'s project is called",
    ),
    relation(
        "person",
        TEAMS,
        "{s} is a big supporter of {v}.|{s} has a scarf of {v}.|{s} bought a season ticket for {v}.",
        "Which club has {s} as a fan?|For which team does {s} cheer?",
        "{s} supports|{s} is a fan of",
    ),
    relation(
        "person",
        FIRST_JOBS,
        "During the holidays {s} earns money as a {v}.|{s} started out as a {v}.|{s} has a summer job as a {v}.",
        "What is {s}'s summer job?|How did {s} earn the first money?",
        "{s}'s job was as a|{s} was a",
    ),
    relation(
        "person",
        CAREERS,
        "{s}'s mother is a {v}.|{s} is the child of a {v}.|{s} grew up watching a parent work as a {v}.",
        "What is the profession of {s}'s mother?|Which trade runs in {s}'s family?",
        "{s}'s mother is a|The mother is a",
    ),
    relation(
        "person",
        HOBBIES,
        "{s} is crazy about {v}.|{s}'s great passion is {v}.|All the free evenings of {s} go into {v}."
        "|Nothing makes {s} happier than {v}.",
        "What is {s}'s hobby?|How does {s} like to pass the time?",
        "{s}'s hobby is|{s} likes",
    ),
    relation(
        "person",
        HOBBIES,
        "{s} gives a seminar on {v}.|{s} won a prize for {v}.|{s} made a video about {v}.",
        "What is {s} an expert in?|For what did {s} win a prize?",
        "{s} is an expert in|{s} won a prize for",
    ),
    relation(
        "person",
        DANCES,
        "{s} is taking lessons in {v}.|{s} performs on stage, the specialty is {v}.|At the ball {s} showed us the {v}.",
        "Which dance does {s} know?|What is {s} practising for the ball?",
        "{s} dances|{s}'s dance is",
    ),
    relation(
        "person",
        ROUTINES,
        "{s} begins each day with {v}.|{s}'s morning ritual is {v}.|After getting up {s} has to do one thing, {v}.",
        "What is {s}'s ritual?|With what does {s} open the day?",
        "{s}'s ritual is|{s} begins with",
    ),
    relation(
        "person",
        GOALS,
        "{s} has decided to {v}.|{s} made a vow to {v}.|For the new year {s} wants to {v}."
        "|Everyone was surprised when {s} promised to {v}.",
        "What is {s}'s resolution?|What did {s} vow?",
        "{s} wants to|{s} promised to",
    ),
    relation(
        "person",
        PLANS,
        "On Saturday {s} is going to {v}.|{s} invited us all to {v}.|{s} would love to {v}.",
        "What is {s} planning?|What are the weekend plans of {s}?",
        "{s} is going to|{s} wants to",
    ),
)
