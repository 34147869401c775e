"""Who somebody says they are: names, family, places, work, health."""

from __future__ import annotations

from model.training.relations import Relation, relation
from model.training.told.codes import BLOOD, PLATES
from model.training.told.words import (
    ALLERGENS,
    BANDS,
    BODY,
    CAREERS,
    CARS,
    COMPANIES,
    COSTUMES,
    FIRST_JOBS,
    FIRST_NAMES,
    LANDS,
    LAST_NAMES,
    NICKNAMES,
    OWN_INSTRUMENTS,
    PET_NAMES,
    REMEDIES,
    SCHOOLS,
    SMALL_TOWNS,
    STREETS,
    TEAMS,
    TONGUES,
    ZODIAC,
)

MINE: tuple[Relation, ...] = (
    relation(
        "self",
        PET_NAMES,
        "My dog is called {v}.|We have a dog at home by the name of {v}.|The puppy I adopted answers to {v}."
        "|I walk my dog {v} before work.",
        "What did I say my dog's name was?|What do I call the puppy?",
        "Your dog's name is|You call your dog|It is",
    ),
    relation(
        "self",
        PET_NAMES,
        "The cat I live with is {v}.|My cat goes by {v}.|I had to take my cat {v} to the vet."
        "|For our cat we chose the name {v}.",
        "Which name did I give my cat?|What is the kitten I own called?",
        "Your cat is called|The name of your cat is",
    ),
    relation(
        "self",
        PET_NAMES,
        "The neighbours' cat is named {v}.|Next door there is a cat that they call {v}."
        "|My neighbour's cat {v} sleeps on my balcony.",
        "What is the cat from next door called?|What do I shout when my neighbour's tomcat is in the yard?",
        "The neighbours' cat is|The cat next door is called",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "My sister is called {v}.|I have one sister, {v}, who is younger than me.|I grew up with a sister named {v}."
        "|You should meet my sister {v}.",
        "What is the name of my sister?|Which girl has the same parents as I do?",
        "Your sister is|Your sister's name is",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "My husband's name is {v}.|I have been married for ages to {v}.|The man I married is called {v}."
        "|On Friday my husband {v} cooks for me.",
        "Who is my husband?|To whom am I married?",
        "Your husband is|You are married to",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "My daughter is called {v}.|We named our baby girl {v}.|I am the parent of a girl called {v}."
        "|My little daughter {v} starts school soon.",
        "What is my girl called?|What name does my child have?",
        "Your daughter's name is|Your daughter is",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "I share my office with {v}.|The colleague at the desk next to mine is {v}.|At work I sit beside {v}.",
        "Who sits with me at work?|Which colleague is in my room?",
        "You share the office with|Your colleague is|The one next to you is",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "I was named after my grandmother {v}.|My grandmother's name was {v}.|My mother's mother was called {v}."
        "|I miss my gran {v} a lot.",
        "What was my gran called?|Do you know the name of my mother's mother?",
        "Your grandmother was|Your gran's name was",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "My middle name is {v}.|Between my first and last name I have a second one, {v}."
        "|In my passport the middle name says {v}.",
        "Which second name do I have?|What stands in the middle of my full name?",
        "Your middle name is|Your second name is",
    ),
    relation(
        "self",
        NICKNAMES,
        "My friends call me {v}.|At school everybody's nickname for me was {v}.|I have a funny nickname, {v}."
        "|Nobody uses my real name, I am just {v} to them.",
        "What is my nickname?|By which funny name do my friends know me?",
        "Your nickname is|Your friends call you|They call you",
    ),
    relation(
        "self",
        LAST_NAMES,
        "My maiden name is {v}.|Before the wedding my family name was {v}.|I was born with the surname {v}.",
        "What was I called before I married?|Which surname did I use to have?",
        "Your maiden name is|Before you married you were called",
    ),
    relation(
        "self",
        LAST_NAMES,
        "My doctor is Dr {v}.|When I am ill I go to see Dr {v}.|The doctor who treats me is Dr {v}."
        "|I trust my physician, Dr {v}, completely.",
        "Who treats me when I am sick?|What is my physician called?",
        "Your doctor is Dr|You go to Dr",
    ),
    relation(
        "self",
        LAST_NAMES,
        "My maths teacher was Mrs {v}.|The teacher I liked best was Mrs {v}."
        "|I learned the most from my old teacher, Mrs {v}.",
        "Which teacher did I mention?|Who taught me as a child?",
        "Your teacher was Mrs|You were taught by Mrs",
    ),
    relation(
        "self",
        LAST_NAMES,
        "The lawyer who handles my case is Mr {v}.|I hired a lawyer, Mr {v}.|My attorney is called Mr {v}.",
        "Who represents me in court?|What is my lawyer's name?",
        "Your lawyer is Mr|You are represented by Mr",
    ),
    relation(
        "self",
        SMALL_TOWNS,
        "My parents live in {v}.|My mum and dad have a house in {v}.|On Sundays I drive to my parents in {v}."
        "|My parents retired and settled in {v}.",
        "Where is my parents' house?|To which town do I go when I visit mum and dad?",
        "Your parents live in|Your parents' home is in",
    ),
    relation(
        "self",
        SMALL_TOWNS,
        "I was born in {v}.|My birthplace is {v}.|The hospital I came into the world in is in {v}."
        "|According to my passport I was born in {v}.",
        "What is my place of birth?|Which town do I come from?",
        "You were born in|Your birthplace is",
    ),
    relation(
        "self",
        SMALL_TOWNS,
        "I went to university in {v}.|My student years were spent in {v}.|I got my degree in {v}.",
        "Where did I study?|In which town was I a student?",
        "You studied in|Your university was in",
    ),
    relation(
        "self",
        SMALL_TOWNS,
        "My train leaves for {v}.|I have a train ticket to {v}.|Tomorrow I travel by rail to {v}."
        "|My train will take me as far as {v}.",
        "Where does my train go?|What is the destination of my rail journey?",
        "Your train goes to|You are travelling to",
    ),
    relation(
        "self",
        SMALL_TOWNS,
        "My wife and I met in {v}.|I fell in love with my wife in {v}.|The place where I first saw my wife was {v}.",
        "Where did I meet my wife?|In what town did our love begin?",
        "You met in|You met your wife in",
    ),
    relation(
        "self",
        LANDS,
        "For my honeymoon I flew to {v}.|My honeymoon was in {v}.|As newlyweds we spent two weeks in {v}.",
        "Where did I go when I had just married?|Which country was my honeymoon in?",
        "Your honeymoon was in|You went to",
    ),
    relation(
        "self",
        LANDS,
        "I dream of moving to {v}.|One day I want to live in {v}.|If I could emigrate, it would be to {v}."
        "|My plan is to spend my old age in {v}.",
        "To which country would I like to move?|Where do I want to live some day?",
        "You would like to move to|You dream of|You want to live in",
    ),
    relation(
        "self",
        LANDS,
        "My ancestors are from {v}.|My family emigrated long ago from {v}.|I have roots in {v}.",
        "Where does my family originally come from?|In which country are my roots?",
        "Your family is from|Your roots are in",
    ),
    relation(
        "self",
        STREETS,
        "My flat is on {v}.|The street I live on is {v}.|You can send my mail to {v}."
        "|I moved into a small house on {v}.",
        "What is my street called?|Which street should the driver take me home to?",
        "Your street is|You live on|Your home is on",
    ),
    relation(
        "self",
        SCHOOLS,
        "The school I went to is {v}.|As a child I was a pupil at {v}.|My old school is called {v}."
        "|I spent eight years at {v}.",
        "Which school did I attend?|Where was I a pupil?",
        "You went to|Your school was",
    ),
    relation(
        "self",
        SCHOOLS,
        "My kids are enrolled at {v}.|Every morning I take the children to {v}.|My children's school is {v}.",
        "Where do my children learn?|Which school have my kids got?",
        "Your children go to|The school of your kids is",
    ),
    relation(
        "self",
        COMPANIES,
        "I am employed by {v}.|The company I work for is {v}.|My employer is a firm called {v}."
        "|My pay cheque comes from {v}.",
        "Who is my employer?|At which firm do I have my job?",
        "You work for|Your employer is",
    ),
    relation(
        "self",
        COMPANIES,
        "I had a job interview at {v}.|I applied for a position with {v}."
        "|I am waiting to hear back about a job from {v}.",
        "Which firm did I apply to?|Where would I like to be hired?",
        "You applied to|Your interview was at",
    ),
    relation(
        "self",
        COMPANIES,
        "My phone contract is with {v}.|For my mobile I pay a bill to {v}.|My phone provider is {v}.",
        "Which provider do I have for my mobile?|Who runs my phone line?",
        "Your provider is|Your phone contract is with",
    ),
    relation(
        "self",
        COMPANIES,
        "I founded a start-up called {v}.|My own business has the name {v}.|I registered my company as {v}.",
        "What is my business called?|Which start-up is mine?",
        "Your company is called|You founded",
    ),
    relation(
        "self",
        FIRST_JOBS,
        "My first job was as a {v}.|When I was sixteen I started out as a {v}."
        "|I earned my very first money as a {v}.|Long ago, straight after school, I was a {v}.",
        "How did I begin my working life?|What was I at sixteen?",
        "Your first job was as a|You started as a|You were a",
    ),
    relation(
        "self",
        CAREERS,
        "As a child I wanted to become a {v}.|My childhood dream was to be a {v}."
        "|When I was little I told everyone I'd be a {v}.",
        "What did I want to be when I grew up?|Which profession did I dream of as a kid?",
        "You wanted to be a|You dreamed of being a",
    ),
    relation(
        "self",
        CAREERS,
        "My father was a {v}.|My dad worked all his life as a {v}.|I am the child of a {v}.",
        "What did my dad do for work?|Which trade did my father have?",
        "Your father was a|Your dad worked as a",
    ),
    relation(
        "self",
        BLOOD,
        "My blood type is {v}.|The lab says that my blood is {v}.|In an emergency, give me blood of group {v}."
        "|I am a donor with the blood group {v}.",
        "Which blood do I need?|What did the lab find out about my blood?",
        "Your blood type is|Your blood group is",
    ),
    relation(
        "self",
        ALLERGENS,
        "I am allergic to {v}.|I have a bad allergy to {v}.|My skin gets red from {v}."
        "|Please be careful, I can't tolerate {v}.",
        "What am I allergic to?|Which thing must I stay away from for my health?",
        "You are allergic to|You can't tolerate|You should avoid",
    ),
    relation(
        "self",
        REMEDIES,
        "Every morning I take {v}.|My doctor prescribed me {v}.|The medicine I need is {v}."
        "|From the pharmacy I have to pick up {v}.",
        "Which medicine am I on?|What has been prescribed for me?",
        "You take|Your medicine is",
    ),
    relation(
        "self",
        BODY,
        "My pain is in the {v}.|Yesterday I hurt my {v}.|I had an operation on the {v}."
        "|I fell off the bike and injured my {v}.",
        "Where does it hurt me?|Which part of my body gives me trouble?",
        "Your pain is in the|You hurt your",
    ),
    relation(
        "self",
        ZODIAC,
        "My star sign is {v}.|By the zodiac I am {v}.|According to my horoscope I belong to {v}.",
        "Which sign of the zodiac am I?|Under what sign was I born?",
        "Your star sign is|Your sign is",
    ),
    relation(
        "self",
        TONGUES,
        "I am learning {v}.|Twice a week I have lessons in {v}.|The language I practise with an app is {v}."
        "|For my next trip I started to study {v}.",
        "Which language am I trying to pick up?|What do I practise with the app?",
        "You are learning|The language you are learning is",
    ),
    relation(
        "self",
        TONGUES,
        "My mother tongue is {v}.|At home my parents spoke only {v} to me.|The first language I ever spoke was {v}.",
        "What is my native language?|Which language did I hear as a baby?",
        "Your mother tongue is|Your native language is",
    ),
    relation(
        "self",
        OWN_INSTRUMENTS,
        "The instrument I practise is the {v}.|I take lessons on the {v}.|In our orchestra I am on the {v}."
        "|Since I was nine I have been practising the {v}.",
        "Which instrument is mine?|What am I learning to play?",
        "Your instrument is the|You practise the",
    ),
    relation(
        "self",
        BANDS,
        "I play in a band called {v}.|My band's name is {v}.|On stage my friends and I are {v}."
        "|We have a gig tonight, my band is {v}.",
        "What is the name of my band?|Under which name do I perform?",
        "Your band is called|You play in",
    ),
    relation(
        "self",
        TEAMS,
        "The team I support is {v}.|I have been a fan all my life of {v}.|My heart beats for {v}."
        "|On Saturdays I cheer for {v}.",
        "Whose fan am I?|Which club do I follow?",
        "Your team is|You support",
    ),
    relation(
        "self",
        TEAMS,
        "I joined a club, I now play for {v}.|My own team is called {v}.|I am the goalkeeper of {v}.",
        "For which team do I play?|Whose goal do I keep?",
        "You play for|Your own team is",
    ),
    relation(
        "self",
        COSTUMES,
        "To the costume party I am going as a {v}.|My costume for Halloween is a {v}."
        "|For carnival I dress up as a {v}.",
        "What will I be at the party?|How am I disguised?",
        "You are going as a|Your costume is a",
    ),
    relation(
        "self",
        CARS,
        "I drive a {v}.|My car is a {v}.|The car parked in my garage is a {v}."
        "|Last month I traded in the old car for a {v}.",
        "What make of car do I own?|Which car is mine?",
        "Your car is a|You drive a",
    ),
    relation(
        "self",
        PLATES,
        "My licence plate is {v}.|The number plate on my car reads {v}.|I registered the car, and the plate says {v}.",
        "What is on the plate of my car?|How is my car registered?",
        "Your plate is|Your car has the plate",
    ),
)
