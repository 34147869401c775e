"""What somebody has to see to: appointments, purchases, orders, repairs, journeys and bills."""

from __future__ import annotations

from model.training.relations import MONTHS, Relation, relation
from model.training.told.codes import DATES, HALF_DAYS, LONG_CODES
from model.training.told.more_words import (
    BANKS,
    BAYS,
    CAFES,
    CAKES,
    CAMPS,
    CHECKS,
    COURIERS,
    DAD_GIFTS,
    DOSES,
    GATES,
    GIFTS,
    GROCERIES,
    GYMS,
    INSURERS,
    LAUNDRY,
    LOAVES,
    LOST_AT,
    MEN,
    ORDERS,
    RIVERS,
    SALONS,
    SUPERMARKETS,
    THEMES,
    TRADESMEN,
    VENUES,
)
from model.training.told.words import FIRST_NAMES, LANDS, LAST_NAMES

ERRANDS: tuple[Relation, ...] = (
    relation(
        "self",
        LAST_NAMES,
        "My dentist is called Dr {v}.|My teeth are in the hands of Dr {v}."
        "|I've been going to the same dentist for years, Dr {v}.|The name of my dentist is Dr {v}.",
        "What is my dentist's name?|Who looks after my teeth?",
        "Your dentist is called Dr|Your dentist is Dr|The name of your dentist is Dr",
    ),
    relation(
        "self",
        LAST_NAMES,
        "Our vet is Dr {v}.|When the dog is ill we go to the vet, Dr {v}.|The cat got her shots from the vet, Dr {v}.",
        "Which vet do we go to?|What is our vet called?",
        "Your vet is Dr|Your vet's name is Dr",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "My hairdresser is {v}.|I won't let anyone touch my hair except my hairdresser {v}."
        "|The person who cuts my hair is called {v}.",
        "Who cuts my hair?|What is my hairdresser's name?",
        "Your hairdresser is|The one who cuts your hair is called|Your hairdresser's name is",
    ),
    relation(
        "self",
        MEN,
        "My mechanic is called {v}.|My car is with a mechanic named {v}."
        "|For anything wrong with the car I ring my mechanic {v}.",
        "What is my mechanic's name?|Who repairs my car?",
        "Your mechanic is called|Your mechanic's name is",
    ),
    relation(
        "self",
        LAST_NAMES,
        "My physiotherapist is Ms {v}.|My back is being treated by a physiotherapist, Ms {v}."
        "|On Mondays I have physio with Ms {v}.",
        "Who treats my back?|What is my physiotherapist called?",
        "Your physiotherapist is Ms|You have physio with Ms",
    ),
    relation(
        "self",
        LAST_NAMES,
        "My driving instructor is Mr {v}.|I'm learning to drive with Mr {v}.|The man teaching me to drive is Mr {v}.",
        "Who is my driving instructor?|With whom do I have driving lessons?",
        "Your driving instructor is Mr|You are learning to drive with Mr",
    ),
    relation(
        "self",
        TRADESMEN,
        "The plumbers I called are {v}.|For the leak in the kitchen I rang {v}."
        "|Our pipes were fixed by a firm called {v}.",
        "Which plumbers did I call?|Who fixed our pipes?",
        "The plumbers you called are|Your plumbers are|Your pipes were fixed by",
    ),
    relation(
        "self",
        HALF_DAYS,
        "The vet will see the dog on {v}.|My dog has an appointment at the vet on {v}."
        "|I'm taking the dog to the vet on {v}.",
        "When is the dog's appointment at the vet?|When do I take the dog to the vet?",
        "The vet appointment is on|Your dog's appointment is on",
    ),
    relation(
        "self",
        DATES,
        "My eye test is on {v}.|I booked an eye test for {v}.|The optician can test my eyes on {v}.",
        "When is my eye test?|On which date am I at the optician's?",
        "Your eye test is on|You booked your eye test for",
    ),
    relation(
        "self",
        "time",
        "My doctor's appointment is at {v}.|I have to be at the doctor's by {v}.|The doctor is expecting me at {v}.",
        "What time is my doctor's appointment?|When do I have to be at the doctor's?",
        "Your doctor's appointment is at|Your appointment is at|The doctor is expecting you at",
    ),
    relation(
        "self",
        HALF_DAYS,
        "Parents' evening at school is on {v}.|I have to talk to my son's teacher on {v}."
        "|My son's school invited us for {v}.",
        "When is parents' evening?|When do I talk to my son's teacher?",
        "Parents' evening is on|You talk to the teacher on",
    ),
    relation(
        "self",
        DATES,
        "The car is due for a service on {v}.|I booked my car in at the garage for {v}.|My car's inspection is on {v}.",
        "When is my car due for its service?|For what date did I book the garage?",
        "Your car is due for a service on|Your car's service is on|Your car is booked in for",
    ),
    relation(
        "self",
        MONTHS,
        "My passport expires in {v}.|I have to renew my passport in {v}.|My passport is only good until {v}.",
        "When does my passport expire?|In which month must I renew my passport?",
        "Your passport expires in|You have to renew your passport in",
    ),
    relation(
        "self",
        LONG_CODES,
        "The tracking number of my parcel is {v}.|My parcel can be followed with the tracking number {v}."
        "|The shop sent me a tracking code for the parcel: {v}.",
        "What's the tracking number of my parcel?|How can I track my parcel?",
        "The tracking number of your parcel is|Your tracking number is|Your parcel's tracking code is",
    ),
    relation(
        "self",
        "digits",
        "My order number is {v}.|The shop confirmed my order under number {v}."
        "|About my order: they asked me to quote {v}.",
        "What is my order number?|Which number should I quote to the shop?",
        "Your order number is|The number of your order is",
    ),
    relation(
        "self",
        ORDERS,
        "I ordered a {v}.|I'm waiting for the postman to bring me a {v}."
        "|In the online sale I finally got myself a {v}.|My order, a {v}, is delayed.",
        "What did I order?|What am I expecting in the post?",
        "You ordered a|Your order is a|You are waiting for a",
    ),
    relation(
        "self",
        COURIERS,
        "My parcel is coming with {v}.|The delivery firm bringing my package is {v}."
        "|My package was handed over to {v}.",
        "Which firm delivers my package?|Who has got my parcel?",
        "Your parcel is coming with|Your package is delivered by|The delivery firm is",
    ),
    relation(
        "self",
        GROCERIES,
        "On my way home I need to buy {v}.|We've run out of something, please put on my shopping list {v}."
        "|At the shop, don't let me forget the {v}.|My wife asked me to get some {v}.",
        "What do I need to buy?|What must I not forget at the shop?|What is on my shopping list?",
        "You need to buy|You have to get|At the shop you must get",
    ),
    relation(
        "self",
        SUPERMARKETS,
        "I do my shopping at {v}.|The supermarket around my corner is {v}.|For the weekly groceries we drive to {v}.",
        "Where do I do my shopping?|Which supermarket do I use?",
        "You do your shopping at|Your supermarket is|You buy your groceries at",
    ),
    relation(
        "self",
        LOAVES,
        "From the bakery I always get {v}.|The bread I buy every Saturday is {v}.|My baker knows that I want {v}.",
        "What do I get from the bakery?|Which bread do I always buy?",
        "From the bakery you get|The bread you buy is",
    ),
    relation(
        "self",
        CAKES,
        "I am baking a cake for the party, a classic {v}.|The cake my daughter wants for her party is {v}."
        "|For the birthday we ordered from the baker a {v}.",
        "Which cake are we going to have?|What kind of cake will there be at the party?",
        "The cake for the party is|The birthday cake is a|The cake is a",
    ),
    relation(
        "self",
        GIFTS,
        "For our anniversary I got my wife a {v}.|My present for my wife is a {v}."
        "|I'm going to surprise my wife with a {v}.",
        "What did I get my wife?|What is my present for my wife?",
        "You got your wife a|Your present for your wife is a",
    ),
    relation(
        "self",
        DAD_GIFTS,
        "For Father's Day I bought my dad a {v}.|My dad's present is a {v}."
        "|I still have to wrap the present for my father, a {v}.",
        "What did I buy for my dad?|What is my father getting on Father's Day?",
        "You bought your dad a|Your dad's present is a|Your father is getting a",
    ),
    relation(
        "self",
        DATES,
        "My library books are due on {v}.|I have to return the books to the library by {v}."
        "|The librarian stamped my books with {v}.",
        "When are my library books due?|By what date must I return the library books?",
        "Your library books are due on|You have to return the books by",
    ),
    relation(
        "self",
        BAYS,
        "I parked the car on {v}.|My car is in the multi-storey car park on {v}."
        "|To find my car again I must go to {v}.",
        "Where did I park the car?|Where in the car park is my car?",
        "You parked the car on|Your car is on|You parked on",
    ),
    relation(
        "self",
        "price",
        "The fine on my parking ticket is {v} dollars.|I got a parking ticket and must pay {v} dollars."
        "|They fined me for parking on the pavement, {v} dollars.",
        "How much is my parking fine?|What do I owe for the parking ticket?",
        "The fine on your parking ticket is|Your parking fine is|For the parking ticket you must pay",
    ),
    relation(
        "self",
        "price",
        "The vet's bill came to {v} pounds.|For treating my cat the vet charged {v} pounds."
        "|I still owe the vet {v} pounds.",
        "How much was the vet's bill?|What do I owe the vet?",
        "The vet's bill came to|You owe the vet|The vet charged",
    ),
    relation(
        "self",
        "price",
        "My new bike cost {v} pounds.|I treated myself to a new bike for {v} pounds."
        "|The bike I bought was reduced to {v} pounds.",
        "How much did my new bike cost?|What did I spend on the bike?",
        "Your new bike cost|The price of your bike was|For your bike you paid",
    ),
    relation(
        "self",
        LAUNDRY,
        "I took to the dry cleaner's a {v}.|The thing I have to collect from the dry cleaner's is a {v}."
        "|At the dry cleaner's hangs my {v}.",
        "What is at the dry cleaner's?|What do I have to collect from the dry cleaner's?",
        "At the dry cleaner's you have a|You have to collect from the cleaner's a",
    ),
    relation(
        "self",
        GATES,
        "My flight boards at gate {v}.|The gate for my flight is {v}.|They announced that I must go to gate {v}.",
        "Which gate does my flight leave from?|What gate do I have to go to?",
        "Your gate is|Your flight boards at gate|You must go to gate",
    ),
    relation(
        "self",
        "digits",
        "My hotel room number is {v}.|At the hotel I'm in room {v}.|The receptionist gave me the key to room {v}.",
        "What is my hotel room number?|Which room am I in at the hotel?",
        "Your hotel room number is|You are in room|Your room number is",
    ),
    relation(
        "self",
        "time",
        "We have to check out of the hotel by {v}.|Check-out at our hotel is at {v}."
        "|The hotel wants us out of the room by {v}.",
        "When do we have to check out?|What time is check-out at our hotel?",
        "You have to check out by|Check-out is at",
    ),
    relation(
        "self",
        "time",
        "My train leaves at {v}.|I have to catch the train at {v}.|Get me to the station, my train departs at {v}.",
        "When does my train leave?|What time is my train?",
        "Your train leaves at|Your train is at|Your train departs at",
    ),
    relation(
        "self",
        "small",
        "My train goes from platform {v}.|I need to be on platform {v}.|The platform for my train was changed to {v}.",
        "Which platform does my train go from?|What is my platform?",
        "Your train goes from platform|Your platform is|The platform is number",
    ),
    relation(
        "self",
        LANDS,
        "This summer we are going to {v}.|Our summer holiday will be in {v}.|We have booked two weeks in {v}.",
        "Where are we going this summer?|Which country did we book for the summer?",
        "Your summer holiday is in|This summer you are going to",
    ),
    relation(
        "self",
        CAMPS,
        "We are camping at {v}.|I reserved a pitch for our tent at {v}.|The campsite we chose is called {v}.",
        "Which campsite did we choose?|Where will we put up our tent?",
        "You are camping at|The campsite is called|Your campsite is",
    ),
    relation(
        "self",
        RIVERS,
        "We booked a cruise on the {v}.|On our boat trip we sail down the {v}."
        "|The river we are going to travel along is the {v}.",
        "On which river is our cruise?|What river are we going to sail on?",
        "Your cruise is on the|The river is the|You are going to sail down the",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "I am being picked up from the airport by {v}.|The friend collecting me at the airport is {v}."
        "|Somebody will wait for me at arrivals, it is {v}.",
        "Who is picking me up from the airport?|Who will wait for me at arrivals?",
        "You are picked up from the airport by|The friend collecting you is",
    ),
    relation(
        "self",
        VENUES,
        "My birthday party is at {v}.|I booked for my party {v}.|All the guests should come to {v}.",
        "Where is my birthday party?|Which place did I book for the party?",
        "Your birthday party is at|Your party is at|You booked",
    ),
    relation(
        "self",
        THEMES,
        "The theme of my party is {v}.|For my party we picked the theme {v}."
        "|Guests, dress up, the motto of my birthday is {v}.",
        "What is the theme of my party?|Which motto did I pick for my birthday?",
        "The theme of your party is|Your party's theme is",
    ),
    relation(
        "self",
        "time",
        "My party starts at {v}.|The guests are coming to my party at {v}.|I asked everyone to be at the party by {v}.",
        "What time does my party start?|When do the guests arrive?",
        "Your party starts at|The guests are coming at",
    ),
    relation(
        "self",
        CAFES,
        "I'm meeting my friend at {v}.|My date and I agreed on a café, {v}."
        "|The place where we will have coffee is {v}.",
        "Where am I meeting my friend?|Which café did we agree on?",
        "You are meeting your friend at|The café you agreed on is",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "I am having lunch with {v}.|My lunch date tomorrow is {v}.|At noon I'm meeting up for a bite with {v}.",
        "Who am I having lunch with?|Who is my lunch date?",
        "You are having lunch with|Your lunch date is",
    ),
    relation(
        "self",
        DOSES,
        "My daily dose is {v}.|The doctor set the dose of my tablets at {v}.|Of my blood pressure pills I take {v}.",
        "What is my daily dose?|How much of the medicine do I take?",
        "Your daily dose is|The dose of your tablets is",
    ),
    relation(
        "self",
        CHECKS,
        "At the hospital I am having {v}.|My doctor sent me for {v}.|The next thing in my medical diary is {v}.",
        "What did my doctor send me for?|What am I having at the hospital?",
        "You are having|Your doctor sent you for",
    ),
    relation(
        "self",
        BANKS,
        "I have my account at {v}.|My bank is {v}.|I opened a savings account with {v}.",
        "Which bank am I with?|Where do I have my account?",
        "Your bank is|You have your account at|Your account is with",
    ),
    relation(
        "self",
        INSURERS,
        "My car is insured with {v}.|Our home insurance is from {v}.|I pay my insurance premiums to {v}.",
        "Who is my insurer?|Which insurance company do I pay?",
        "Your insurer is|You are insured with|Your insurance is from",
    ),
    relation(
        "self",
        GYMS,
        "I go to a gym called {v}.|My gym is {v}.|I signed up for a year of training at {v}.",
        "What is my gym called?|Where do I work out?",
        "Your gym is|You go to a gym called|You work out at",
    ),
    relation(
        "self",
        DATES,
        "My driving test is on {v}.|I'm taking my driving test on {v}.|Wish me luck with the driving test on {v}.",
        "When is my driving test?|On what date do I take the driving test?",
        "Your driving test is on|You take your driving test on",
    ),
    relation(
        "self",
        LOST_AT,
        "I left my umbrella {v}.|My umbrella must still be {v}.|I think the last time I had my umbrella was {v}.",
        "Where did I leave my umbrella?|Where could my umbrella be?",
        "You left your umbrella|Your umbrella is|Your umbrella must be",
    ),
    relation(
        "self",
        SALONS,
        "I get my hair done at {v}.|The salon I go to is {v}.|I booked a perm at a salon called {v}.",
        "Which salon do I go to?|Where do I get my hair done?",
        "The salon you go to is|You get your hair done at|Your salon is",
    ),
    relation(
        "self",
        HALF_DAYS,
        "The new sofa is being delivered on {v}.|I have to be home for the sofa delivery on {v}."
        "|They are going to bring our sofa on {v}.",
        "When is the sofa coming?|When do I have to be home for the delivery?",
        "The sofa is being delivered on|Your sofa is coming on|The sofa delivery is on",
    ),
)
