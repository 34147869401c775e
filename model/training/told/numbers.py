"""Dates, times, codes and numbers that somebody has."""

from __future__ import annotations

from model.training.relations import DAYS, Relation, relation
from model.training.told.codes import (
    CLOCK,
    CODES,
    DATES,
    DISTANCES,
    FLIGHTS,
    HALF_DAYS,
    LONG_CODES,
    PASSWORDS,
    PHONES,
    SEATS,
)
from model.training.told.words import CODE_NAMES, HOTELS, RESTAURANTS, ROOMS

NUMBERS: tuple[Relation, ...] = (
    relation(
        "self",
        DATES,
        "My birthday is on {v}.|I was born on {v}.|You may congratulate me every year on {v}."
        "|I celebrate my birthday with a party on {v}.",
        "When do I have my birthday?|On what date can you congratulate me?",
        "Your birthday is on|You were born on",
    ),
    relation(
        "self",
        DATES,
        "My daughter's birthday is {v}.|I need a cake for my daughter by {v}, the day she was born."
        "|My little girl was born on {v}.",
        "When is my girl's birthday?|On which date does my daughter get presents?",
        "Your daughter's birthday is|She was born on",
    ),
    relation(
        "self",
        DATES,
        "My report is due on {v}.|The deadline for my report is {v}.|My boss wants the report from me by {v}."
        "|I have to hand the report in no later than {v}.",
        "Until when can I write the report?|What deadline do I have?",
        "Your deadline is|It is due on",
    ),
    relation(
        "self",
        DATES,
        "My wedding anniversary is {v}.|My wife and I got married on {v}."
        "|I must not forget flowers for our anniversary on {v}.",
        "On which date was my wedding?|When do I celebrate my marriage?",
        "Your anniversary is|You married on",
    ),
    relation(
        "self",
        DATES,
        "My rental contract ends on {v}.|I have to be out of the flat by {v}.|I am moving house on {v}.",
        "When do I have to leave my flat?|On which date do I move?",
        "You move on|The date is",
    ),
    relation(
        "self",
        DATES,
        "My exam takes place on {v}.|I am going to sit the final exam on {v}."
        "|I study day and night, because the exam is on {v}.",
        "For which date is my exam set?|When will I be examined?",
        "Your exam is on|The exam is on",
    ),
    relation(
        "self",
        HALF_DAYS,
        "My appointment at the hairdresser is on {v}.|I'm having my hair cut on {v}.|The barber can see me on {v}.",
        "When will I get my hair cut?|For when did I book the barber?",
        "Your haircut is on|The barber expects you on",
    ),
    relation(
        "self",
        HALF_DAYS,
        "My dentist appointment is {v}.|I have to sit in the dentist's chair on {v}."
        "|The dentist gave me a slot on {v}.",
        "When are my teeth looked at?|When does the dentist want to see me?",
        "Your dentist appointment is|You see the dentist on",
    ),
    relation(
        "self",
        HALF_DAYS,
        "My choir practice is on {v}.|I sing in a choir that meets every {v}."
        "|I'm never free for dinner because of the choir on {v}.",
        "When do I sing?|When does my choir meet?",
        "Your choir meets on|You sing on",
    ),
    relation(
        "self",
        DAYS,
        "My bins are collected on {v}.|I have to put the rubbish out every {v}."
        "|On my street the bin lorry comes each {v}.",
        "On which day is my rubbish picked up?|When do I have to roll the bins out?",
        "Your bins are collected on|The rubbish goes out on",
    ),
    relation(
        "self",
        CLOCK,
        "My alarm clock is set to {v}.|I get up every day at {v}.|I have to be out of bed by {v}.",
        "At what time do I wake up?|When does my clock ring?",
        "You get up at|Your alarm rings at",
    ),
    relation(
        "self",
        CLOCK,
        "My flight takes off at {v}.|The plane I'm on departs at {v}.|I have to catch a plane at {v}.",
        "When does my plane leave?|At what hour do I fly?",
        "Your flight leaves at|You fly at",
    ),
    relation(
        "self",
        CLOCK,
        "I reserved a table for {v}.|Our dinner reservation is at {v}.|They hold the table for me until {v}.",
        "What time is my table booked for?|When are we expected for dinner?",
        "Your table is booked for|The reservation is for",
    ),
    relation(
        "self",
        FLIGHTS,
        "My flight number is {v}.|I'm booked on flight {v}.|On my boarding pass it says flight {v}."
        "|To pick me up, look for flight {v} on the board.",
        "Which flight am I on?|What does my boarding pass say?",
        "Your flight is|You are on flight",
    ),
    relation(
        "self",
        SEATS,
        "On the plane I have seat {v}.|My seat in the theatre is {v}.|They moved me to seat {v}.",
        "Where do I sit?|Which seat was I given?",
        "Your seat is|You sit in",
    ),
    relation(
        "self",
        HOTELS,
        "I am staying at the Hotel {v}.|My hotel is called {v}.|For the night I booked a room at the {v}."
        "|Send the taxi for me to the hotel {v}.",
        "At which hotel can I be found?|Where did I book a room?",
        "Your hotel is the|You are staying at the",
    ),
    relation(
        "self",
        RESTAURANTS,
        "I booked a table at {v}.|My favourite restaurant is {v}.|I always take my guests to eat at {v}.",
        "In which restaurant do I like to eat?|Where shall we have dinner if I choose?",
        "Your restaurant is|You like to eat at",
    ),
    relation(
        "self",
        ROOMS,
        "My meeting is in room {v}.|The team gathers with me in the conference room {v}."
        "|I reserved a meeting room, it's {v}.",
        "Which room do I have to go to?|Where does the team wait for me?",
        "Your meeting is in|The room is",
    ),
    relation(
        "self",
        CODE_NAMES,
        "The project I lead has the code name {v}.|At work I am on a secret project called {v}."
        "|Internally my project is known as {v}.|My boss put me in charge of {v}, our new project.",
        "What is my project called?|Which code name does my work have?",
        "Your project is called|The code name is",
    ),
    relation(
        "self",
        CODE_NAMES,
        "I named my sailing boat {v}.|My boat is registered as the {v}.|In the marina you will find my yacht {v}.",
        "What name did I paint on my boat?|What is my yacht called?",
        "Your boat is called the|You named it",
    ),
    relation(
        "self",
        PASSWORDS,
        "My wifi password is {v}.|To get online at my place, enter {v}.|I set the password of the router to {v}."
        "|Guests at my home can use the internet with {v}.",
        "How do people get into my wireless network?|Which word did I set for the router?",
        "Your wifi password is|The password is",
    ),
    relation(
        "self",
        PASSWORDS,
        "My email login is protected by {v}.|I changed my mailbox password to {v}."
        "|The password I use for email is {v}.",
        "What do I type to read my email?|Which password has my mailbox?",
        "Your email password is|For your mailbox it is",
    ),
    relation(
        "self",
        "digits",
        "My locker code is {v}.|At the gym I open my locker with {v}.|The combination I set on the locker is {v}.",
        "How do I open my locker?|What combination did I choose at the gym?",
        "Your locker code is|The combination is",
    ),
    relation(
        "self",
        "digits",
        "My bank card's PIN is {v}.|At the cash machine I enter {v}.|To pay with my card I type {v}.",
        "What do I type at the cash machine?|Which PIN has my card?",
        "Your PIN is|The PIN of your card is",
    ),
    relation(
        "self",
        "digits",
        "My library card has the number {v}.|At the library I am registered as number {v}."
        "|To borrow books I show my card number {v}.",
        "Which number do I have at the library?|What is printed on my library card?",
        "Your library card is number|Your number is",
    ),
    relation(
        "self",
        "small",
        "My shoe size is {v}.|I wear shoes in size {v}.|My feet need boots of size {v}.",
        "Which size of shoe fits me?|How big are my feet?",
        "Your shoe size is|You wear size",
    ),
    relation(
        "self",
        "small",
        "I live at house number {v}.|The number on my front door is {v}.|To find my house, look for number {v}.",
        "What is my house number?|At which door do I live?",
        "Your house number is|You live at number",
    ),
    relation(
        "self",
        "small",
        "I take the bus line {v} to work.|The bus that stops at my door is the {v}.|My commute is with bus number {v}.",
        "Which bus do I take?|What number is on my bus?",
        "You take the|Your bus is the",
    ),
    relation(
        "self",
        "price",
        "My rent is {v} dollars.|Every month I pay my landlord {v} dollars.|For my flat I am charged {v} dollars.",
        "How much do I pay for the flat?|What does my landlord get from me?",
        "Your rent is|You pay",
    ),
    relation(
        "self",
        "price",
        "For the holiday I have saved {v} dollars.|My travel budget is {v} dollars."
        "|On the trip I can't spend more than {v} dollars.",
        "How much money can I use for the trip?|What is my budget?",
        "Your budget is|You can spend",
    ),
    relation(
        "self",
        "year",
        "I got married in {v}.|My wedding was in the year {v}.|I have had a wedding ring on my finger since {v}.",
        "In what year did I marry?|How long ago, what year, was my wedding?",
        "You married in|The year was",
    ),
    relation(
        "self",
        "year",
        "I bought my house in {v}.|I moved into this house in the year {v}.|My house became mine in {v}.",
        "When did the house become mine?|In which year did I move in?",
        "You bought it in|The year is",
    ),
    relation(
        "self",
        PHONES,
        "My phone number is {v}.|You can text me at {v}.|If anything happens, ring me on {v}."
        "|My new mobile has the number {v}.",
        "How can one call me?|What number do I have?",
        "Your number is|You can be reached on",
    ),
    relation(
        "self",
        CODES,
        "My booking reference is {v}.|The airline confirmed my reservation as {v}."
        "|For the rental car I was sent the code {v}.",
        "Under which reference am I booked?|What code was I sent?",
        "Your reference is|Your booking code is",
    ),
    relation(
        "self",
        LONG_CODES,
        "My gift card has the code {v}.|I got a voucher, to redeem it I enter {v}.|I won a coupon with the code {v}.",
        "How can I redeem my voucher?|What is written on my gift card?",
        "Your voucher code is|The code on your card is",
    ),
    relation(
        "self",
        DISTANCES,
        "My way to work is {v}.|I have to commute {v} each day.|Every morning I run {v}.",
        "How far do I go?|What distance do I cover each day?",
        "You go|Your distance is",
    ),
)
