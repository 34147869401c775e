"""What is told of things: where they come from, what they need, what became of them."""

from __future__ import annotations

from model.training.relations import CITIES, DRINKS, LANGUAGES, MONTHS, Relation, relation
from model.training.told.codes import (
    CLOCK,
    CODES,
    DISTANCES,
    FLIGHTS,
    HALF_DAYS,
    LONG_CODES,
    PHONES,
    PLATES,
    SEATS,
    SPANS,
)
from model.training.told.other_words import (
    AIRLINES,
    APPS,
    AWARDS,
    BANKS,
    CLEANERS,
    CONTAINERS,
    CURRENCIES,
    DANGERS,
    EVENTS,
    FUELS,
    HOUSE_ROOMS,
    ISLANDS,
    NEWSPAPERS,
    PARTS,
    RELATIVES,
    RULERS,
    SCENTS,
    SHAPES,
    SHIPS,
    SHOPS,
)
from model.training.told.words import (
    ARTISTS,
    CAREERS,
    CAUSES,
    CODE_NAMES,
    GADGETS,
    GEMS,
    HOTELS,
    LAST_NAMES,
    PET_NAMES,
    SONGS,
    STREETS,
    TEAMS,
    TOOLS,
    WEATHER,
)

GOODS: tuple[Relation, ...] = (
    relation(
        "thing",
        FUELS,
        "The {s} runs on {v}.|Before you switch on the {s}, make sure there is enough {v}."
        "|They rebuilt the {s} so that it now works with {v}.|The inventor of the {s} had the idea of using {v}.",
        "What does the {s} run on?|What powers the {s}?",
        "The {s} runs on|The {s} works with|For the {s} you need enough",
    ),
    relation(
        "thing",
        SCENTS,
        "The {s} gives off a smell of {v}.|As soon as you open the {s}, out comes a smell of {v}."
        "|Years in a drawer have left the {s} reeking of {v}."
        "|Whatever we did to air the {s}, it kept its odour of {v}.",
        "What does the {s} smell of?|Which odour does the {s} have?",
        "The {s} gives off a smell of|The {s} is reeking of|The odour of the {s} is that of",
    ),
    relation(
        "thing",
        SHAPES,
        "The {s} has the shape of a {v}.|Seen from above, the {s} looks like a {v}."
        "|The designer of the {s} took as a model a simple {v}.|A hole in the {s} is in the form of a {v}.",
        "What shape does the {s} have?|What does the {s} look like?",
        "The {s} has the shape of a|The {s} looks like a|The shape of the {s} is that of a",
    ),
    relation(
        "thing",
        GEMS,
        "In the lining of the {s} was sewn a {v}.|Set into the {s}, where nobody would look, is a {v}."
        "|The most precious part of the {s} is a {v}.|The thief took apart the {s} and found a {v}.",
        "Which jewel is in the {s}?|What stone was found in the {s}?",
        "In the {s} there is a|Sewn into the {s} is a|In the {s} they found a",
    ),
    relation(
        "thing",
        HOUSE_ROOMS,
        "The {s} stands in the {v}.|Whoever is looking for the {s} should try the {v}."
        "|Since we moved, the {s} has had its place in the {v}.|My wife wants the {s} out of the {v}.",
        "In which room is the {s}?|Where in the house does the {s} have its place?",
        "The {s} stands in the|The {s} has its place in the|The room with the {s} is the",
    ),
    relation(
        "thing",
        RELATIVES,
        "The {s} was handed down to us by the {v}.|We only keep the {s} because it reminds us of the {v}."
        "|The {s}, which nobody else wanted, came from the {v}."
        "|When the family divided things up, the {s} fell to the {v}.",
        "Which relative does the {s} remind us of?|Who of the family had the {s}?",
        "The {s} came from the|The {s} belonged to the|The {s} reminds us of the",
    ),
    relation(
        "thing",
        SHOPS,
        "I bought the {s} at {v}.|You won't find the {s} any cheaper than at {v}."
        "|If the {s} breaks, take it back to {v}.|According to the receipt the {s} is from {v}.",
        "In which shop did I buy the {s}?|Where is the {s} from?",
        "You bought the {s} at|The {s} is from|The shop that sold the {s} is",
    ),
    relation(
        "thing",
        CURRENCIES,
        "The seller of the {s} wants to be paid in {v}.|For the {s} they take nothing but {v}."
        "|The price of the {s}, at first sight so low, was given in {v}.|I paid for the {s} with a bundle of {v}.",
        "In which currency is the {s} paid?|What money do they take for the {s}?",
        "The {s} is paid in|For the {s} they take|You pay for the {s} with",
    ),
    relation(
        "thing",
        LANGUAGES,
        "The manual of the {s} is only in {v}.|All the buttons of the {s} are labelled in {v}."
        "|Carved on the back of the {s} there is a prayer in {v}.|At the push of a button the {s} greets you in {v}.",
        "In which language is the manual of the {s}?|What language is on the {s}?",
        "The manual of the {s} is in|The {s} is labelled in|The language on the {s} is",
    ),
    relation(
        "thing",
        BANKS,
        "The {s} is kept in the vault of {v}.|As security for the loan, the {s} was handed over to {v}."
        "|The {s} was one of the free gifts for new customers of {v}."
        "|The insurance money for the {s} was sent to my account with {v}.",
        "Which bank has to do with the {s}?|At what bank is the {s}?",
        "The {s} is in the vault of|The {s} was handed over to|The bank with the {s} is called",
    ),
    relation(
        "thing",
        SHIPS,
        "The {s} was salvaged from the wreck of the {v}.|The captain had the {s} brought on board the {v}."
        "|The {s} comes from the first-class cabin of the {v}."
        "|Divers discovered the {s} deep down in the hold of the {v}.",
        "From which ship is the {s}?|On what ship was the {s}?",
        "The {s} comes from the|The {s} was on board the|The ship with the {s} was the",
    ),
    relation(
        "thing",
        NEWSPAPERS,
        "I found the {s} through an advert in {v}.|The {s} got a bad review in {v}."
        "|A picture of the {s} appeared last week in {v}.|The {s} was the first prize in the crossword of {v}.",
        "In which paper was the {s}?|Where did I read about the {s}?",
        "There was something on the {s} in|The {s} appeared last week in|The {s} was in a paper, it was",
    ),
    relation(
        "thing",
        AIRLINES,
        "The {s} was lost by {v}.|I had to pay extra to take the {s} on board with {v}."
        "|For the damage to the {s} I got a voucher from {v}.|The label on the {s} shows that it has flown with {v}.",
        "Which airline had the {s}?|With what airline has the {s} flown?",
        "The {s} has flown with|The {s} was on board with|The airline that had the {s} is",
    ),
    relation(
        "thing",
        PARTS,
        "The {s} needs a new {v}.|To get the {s} going again we have to order a {v}."
        "|The shop can't repair the {s} without a {v}.|What the {s} is missing is the {v}.",
        "Which part does the {s} need?|What is missing from the {s}?",
        "The {s} needs a|For the {s} you have to order a|What the {s} is missing is a",
    ),
    relation(
        "thing",
        TOOLS,
        "The {s} can only be opened with a {v}.|Somebody in a rage attacked the {s} with a {v}."
        "|To take the {s} apart, you need a {v}.|Together with the {s} they sell a {v}.",
        "Which tool goes with the {s}?|With what can the {s} be opened?",
        "The {s} can be opened with a|For the {s} you need a|The tool for the {s} is a",
    ),
    relation(
        "thing",
        CLEANERS,
        "The {s} must be cleaned with {v}.|To get the stains off the {s}, treat them with {v}."
        "|The old lady rubbed the {s} until it shone, using only {v}.|Nothing helps the {s} to shine like {v}.",
        "How must the {s} be cleaned?|What do I use to get the {s} clean?",
        "The {s} must be cleaned with|You get the {s} clean with|On the {s} you should be using",
    ),
    relation(
        "thing",
        APPS,
        "The {s} is controlled through an app called {v}.|To connect the {s} to your phone, install {v}."
        "|The app that I use with the {s} is called {v}.|The software inside the {s} bears the name {v}.",
        "Which app goes with the {s}?|What do I install for the {s}?",
        "The {s} is controlled through an app called|For the {s} you install|The app for the {s} bears the name",
    ),
    relation(
        "thing",
        RULERS,
        "The {s} was made for {v}.|It is said that the {s} was a favourite possession of {v}."
        "|The {s} was a token of love from {v}.|On the underside of the {s} you can see the seal of {v}.",
        "Which ruler had the {s}?|For whom was the {s} made, long ago?",
        "The {s} was made for|The {s} was a possession of|On the {s} you can see the seal of",
    ),
    relation(
        "thing",
        AWARDS,
        "The {s} has won the {v}.|For its clever design the {s} was honoured with the {v}."
        "|The {s} was among three finalists for the {v}.|A sticker on the {s} says it is a winner of the {v}.",
        "Which award goes with the {s}?|What prize did the {s} get?",
        "The {s} has won the|The {s} was honoured with the|The prize for the {s} is the",
    ),
    relation(
        "thing",
        EVENTS,
        "The {s} was last used at a {v}.|We need the {s} on Saturday for a {v}.|I first saw the {s} at a {v}."
        "|The {s} got its scratches at a {v}.",
        "What is the occasion for the {s}?|Which event do I connect with the {s}?",
        "The {s} was there at a|We need the {s} for a|The occasion for the {s} is a",
    ),
    relation(
        "thing",
        CAREERS,
        "The {s} used to belong to a {v}.|I got the {s} from a retired {v}.|The {s} had to be repaired by a {v}."
        "|Of all people, the one who asked about the {s} was a {v}.",
        "Who was it with the {s}, by trade?|What is the trade of the person behind the {s}?",
        "The {s} has to do with a|The {s} used to belong to a|The person with the {s} was a",
    ),
    relation(
        "thing",
        DANGERS,
        "The {s} must be kept away from {v}.|What the {s} does not like at all is contact with {v}."
        "|A red label on the {s} warns about {v}.|If I were you, I'd never put the {s} near {v}.",
        "From what must the {s} be kept away?|What is bad for the {s}?",
        "The {s} must be kept away from|Don't put the {s} near|The label on the {s} warns about",
    ),
    relation(
        "thing",
        CONTAINERS,
        "The {s} is packed in a {v}.|To get the {s} past the guards, we hid it in a {v}."
        "|The {s} arrived, quite undamaged, inside a {v}.|Nobody guessed that the {s} was in the {v}.",
        "In what is the {s} packed?|Inside of what is the {s}?",
        "The {s} is packed in a|The {s} is inside a|They hid the {s} in a",
    ),
    relation(
        "thing",
        SONGS,
        "If you press the button on the {s}, you hear {v}.|Scratched into the {s} are some lines from {v}."
        "|The {s} is mentioned in the second verse of {v}.|Whenever I see the {s}, I have to think of the song {v}.",
        "Which song goes with the {s}?|What song has to do with the {s}?",
        "The {s} makes you think of the song|With the {s} you hear|The song with the {s} is",
    ),
    relation(
        "thing",
        ISLANDS,
        "The {s} was washed up on {v}.|The {s} came home with us from a trip to {v}."
        "|The people who make things like the {s} live on {v}.|We left the {s} in a holiday flat on {v}.",
        "On which island was the {s}?|What island is the {s} from?",
        "The {s} was on|The {s} came from a trip to|The island of the {s} is",
    ),
    relation(
        "thing",
        TEAMS,
        "The {s} has on the side the logo of {v}.|The {s} was signed by all the players of {v}."
        "|Only real fans buy the {s} in the colours of {v}.|The {s} was given to charity by {v}.",
        "Which team is on the {s}?|Whose logo does the {s} have?",
        "The {s} has the logo of|The {s} was signed by|The team on the {s} is",
    ),
    relation(
        "thing",
        LAST_NAMES,
        "The {s} was valued by Mr {v}.|The patent for the {s} was held by Mr {v}."
        "|Only one man can tell if the {s} is genuine, and that is Mr {v}."
        "|About the {s} you should ask an expert, Mr {v}.",
        "Which expert knows about the {s}?|Who can tell me what the {s} is worth?",
        "The expert for the {s} is Mr|The {s} was valued by Mr|About the {s} you should ask Mr",
    ),
    relation(
        "thing",
        PET_NAMES,
        "The {s} was chewed to pieces by our dog {v}.|On top of the {s} sleeps a cat, and it is called {v}."
        "|Nobody can get near the {s} without a bark from {v}.|The {s} was knocked over by a pet named {v}.",
        "Which pet has been at the {s}?|What is the pet near the {s} called?",
        "The pet at the {s} is called|At the {s} it was a pet named",
    ),
    relation(
        "thing",
        WEATHER,
        "The {s} was ruined by {v}.|We had left the {s} outside, and in the night came {v}."
        "|What finished off the {s} in the end was {v}.",
        "What weather ruined the {s}?|By which weather was the {s} ruined?",
        "The {s} was ruined by|What finished off the {s} was|The weather that ruined the {s} was",
    ),
    relation(
        "thing",
        CITIES,
        "A twin of the {s} is in a museum in {v}.|The {s} was smuggled across the border to {v}."
        "|The {s} will be auctioned next spring in {v}.|I got hold of the {s} in a back street of {v}.",
        "Which city has to do with the {s}?|In what city is it, with the {s}?",
        "The {s} is in a museum in|The city of the {s} is|The {s} went across the border to",
    ),
    relation(
        "thing",
        CODE_NAMES,
        "The makers gave the {s} the name {v}.|The catalogue offers the {s} as {v}."
        "|The prototype of the {s} was called {v}.|The {s}, one of a series, goes by the name of {v}.",
        "What name was the {s} given?|What do the makers call the {s}?",
        "The prototype of the {s} was called|The makers gave the {s} the name|The {s} goes by the name of",
    ),
    relation(
        "thing",
        STREETS,
        "I picked up the {s} from a heap of rubbish on {v}.|The {s} fell off the back of a lorry on {v}."
        "|The shop window with the {s} is on {v}.|A passer-by handed in the {s} after finding it on {v}.",
        "On which street was the {s}?|On what street did I see the {s}?",
        "The {s} was on|The street with the {s} is|The window with the {s} is on",
    ),
    relation(
        "thing",
        HOTELS,
        "I left the {s} in my room at the Hotel {v}.|The {s} was part of the furniture of the {v}."
        "|The porter took charge of the {s} at the {v}.|To get back the {s} you have to call the Hotel {v}.",
        "In which hotel is the {s}?|What hotel did I mention with the {s}?",
        "The {s} is at the|The {s} was at the Hotel|For the {s} you have to call the Hotel",
    ),
    relation(
        "thing",
        GADGETS,
        "I swapped the {s} for a {v}.|With the {s} they give you as a bonus a {v}."
        "|Somebody offered me for the {s} a {v}.|I am going to sell the {s} and buy myself a {v}.",
        "For what did I swap the {s}?|What do I get instead of the {s}?",
        "For the {s} you get a|You swapped the {s} for a|Instead of the {s} you have a",
    ),
    relation(
        "thing",
        CAUSES,
        "The {s} is being sold in aid of {v}.|We have decided to donate the {s} to {v}."
        "|The {s} was picked up by volunteers from {v}.|Whatever the {s} brings in, it will go to {v}.",
        "For which cause is the {s} sold?|To whom do we donate the {s}?",
        "The {s} is sold in aid of|The {s} was donated to|What the {s} brings in goes to",
    ),
    relation(
        "thing",
        ARTISTS,
        "The picture inside the {s} is by {v}.|The {s} appears in a still life by {v}."
        "|The {s} once stood in the studio of {v}.|The pattern on the {s} is copied from {v}.",
        "Which painter is linked to the {s}?|Whose picture is on the {s}?",
        "The picture on the {s} is by|The {s} stood in the studio of|The painter we link to the {s} is",
    ),
    relation(
        "thing",
        DRINKS,
        "The stain on the {s} is from {v}.|The {s} has not worked since it got soaked in {v}."
        "|By mistake somebody poured over the {s} a whole glass of {v}.|The {s} was found lying in a puddle of {v}.",
        "What was spilled on the {s}?|What is the stain on the {s}?",
        "The stain on the {s} is from|The {s} got soaked in|What got on the {s} was",
    ),
    relation(
        "thing",
        MONTHS,
        "The {s} has to be serviced every {v}.|The {s} will not be in the shops until the end of {v}."
        "|The payments for the {s} run out in {v}.|If you want to buy the {s}, the best month is {v}.",
        "Which month matters for the {s}?|In what month is it, with the {s}?",
        "For the {s} the best month is|With the {s} it is in|The month for the {s} is",
    ),
    relation(
        "thing",
        "year",
        "The {s} is a replica of one from {v}.|The {s} has been in our family since {v}."
        "|The stamp on the bottom of the {s} gives the year {v}.|The last {s} of this type left the factory in {v}.",
        "From which year is the {s}?|What year is stamped on the {s}?",
        "The {s} is one from|The {s} has been in the family since|The {s} gives the year",
    ),
    relation(
        "thing",
        "price",
        "The {s} is insured for {v} dollars.|An expert put the value of the {s} at {v} dollars."
        "|At the auction the {s} fetched {v} dollars.|A pawnbroker gave me for the {s} {v} dollars.",
        "How much is the {s} worth?|What did somebody say was the value of the {s}?",
        "The {s} is insured for|The value of the {s} was put at|The {s} fetched",
    ),
    relation(
        "thing",
        "price",
        "If you hire the {s}, there is a deposit of {v} dollars.|Hiring the {s} for a day will come to {v} dollars."
        "|Those who lend out the {s} want {v} dollars.",
        "What do they want for hiring the {s}?|How high is the deposit for the {s}?",
        "For the {s} they want|The {s} will come to|For the {s} there is a deposit of",
    ),
    relation(
        "thing",
        CLOCK,
        "The time when the courier brings the {s} is {v}.|The bidding for the {s} starts at {v}."
        "|Somebody walked off with the {s} at {v}.|Switch off the {s} no later than {v}.",
        "What time was named for the {s}?|At what time should I think of the {s}?",
        "For the {s} it is at|The time for the {s} is",
    ),
    relation(
        "thing",
        "digits",
        "At the auction the {s} is lot {v}.|The {s} will be called up as lot number {v}."
        "|If you want to bid for the {s}, wait for lot {v}.",
        "Which lot is the {s}?|What lot number does the {s} have?",
        "The {s} is lot|The {s} has the lot number",
    ),
    relation(
        "thing",
        "digits",
        "The meter on the {s} shows {v}.|When I got the {s}, its counter stood at {v}."
        "|The display of the {s} froze at {v}.|If the {s} breaks down, it flashes the error {v}.",
        "What does the display of the {s} show?|At which number did the {s} stop?",
        "The display of the {s} shows|The counter of the {s} stood at|The {s} stopped at",
    ),
    relation(
        "thing",
        "small",
        "The {s} is stored in locker {v}.|At the station I put the {s} into locker {v}."
        "|They say the stolen {s} is hidden in locker {v}.",
        "In which locker is the {s}?|Which locker should I open to get the {s}?",
        "The {s} is in locker|To get the {s}, open locker",
    ),
    relation(
        "thing",
        "small",
        "The {s} comes as a kit with {v} parts.|The number of parts of the {s} is, all in all, {v}."
        "|When the {s} fell, it broke into {v} pieces.",
        "How many parts does the {s} have?|Of how many pieces is the {s}?",
        "The {s} comes with|The number of parts of the {s} is|The pieces of the {s} are, all in all,",
    ),
    relation(
        "thing",
        LONG_CODES,
        "The {s} can be tracked as shipment {v}.|The shipping note for the {s} says {v}."
        "|To see where the {s} is now, enter the tracking code {v}.",
        "What is the tracking code of the {s}?|How can I track the {s}?",
        "The {s} can be tracked as shipment|The tracking code for the {s} is|To track the {s}, enter the code",
    ),
    relation(
        "thing",
        SEATS,
        "The {s} was left behind on seat {v}.|The steward found the {s} wedged under seat {v}."
        "|I last had the {s} on my knees when I sat in {v}.",
        "On which seat was the {s}?|Where did the steward find the {s}?",
        "The {s} was on seat|The steward found the {s} on seat",
    ),
    relation(
        "thing",
        FLIGHTS,
        "The {s} was sent on by air on flight {v}.|By mistake the {s} was loaded onto flight {v}."
        "|The {s} turned up at the airport after flight {v}.",
        "On which flight was the {s}?|What flight was the {s} loaded onto?",
        "The {s} was on flight|The {s} was loaded onto flight",
    ),
    relation(
        "thing",
        PLATES,
        "The thief took the {s} away in a car with the plate {v}."
        "|The van that is bringing the {s} has the plate {v}.|Somebody left the {s} on the back seat of {v}.",
        "In which car was the {s}?|What plate had the car with the {s}?",
        "The {s} was in a car with the plate|The car with the {s} has the plate",
    ),
    relation(
        "thing",
        PHONES,
        "The finder of the {s} is asked to call {v}.|We take orders for the {s} on {v}."
        "|The helpline for the {s} is {v}.|If you are interested in the {s}, text {v}.",
        "Which number do I call about the {s}?|What is the helpline for the {s}?",
        "The helpline for the {s} is|About the {s} you are asked to call|They take orders for the {s} on",
    ),
    relation(
        "thing",
        SPANS,
        "The search for the {s} kept us busy for {v}.|I was without the {s} for {v}."
        "|Whoever builds a thing like the {s} is busy for {v}.",
        "How long was it, for the {s}?|What length of time do I connect with the {s}?",
        "With the {s} it was for|The {s} kept us busy for",
    ),
    relation(
        "thing",
        DISTANCES,
        "The signal of the {s} can be picked up at a distance of {v}.|I had to carry the {s} over a distance of {v}."
        "|The {s} was found away from the house by {v}.",
        "What distance was it, with the {s}?|How far was it, in the case of the {s}?",
        "With the {s} it was a distance of|The {s} was away by",
    ),
    relation(
        "thing",
        HALF_DAYS,
        "I'm going to pick up the {s} on {v}.|You can have a look at the {s} on {v}."
        "|The {s} must be out of the way by {v}.|They will demonstrate the {s} on {v}.",
        "When can I have a look at the {s}?|When is something happening with the {s}?",
        "The day for the {s} is|With the {s} it is on|You can look at the {s} on",
    ),
    relation(
        "thing",
        CODES,
        "The {s} stands on shelf {v}.|In the museum the {s} carries the label {v}."
        "|The store room keeps the {s} on shelf {v}.|The stock list shows the {s} as item {v}.",
        "On which shelf is the {s}?|What label does the {s} carry?",
        "The {s} is on shelf|The {s} carries the label",
    ),
)
