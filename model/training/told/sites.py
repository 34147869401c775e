"""What is told of places: what they were, what is there, what goes on in them."""

from __future__ import annotations

from model.training.relations import LANGUAGES, Relation, relation
from model.training.told.codes import CLOCK, DISTANCES, PHONES, PLATES, SPANS
from model.training.told.other_words import (
    BANKS,
    CARGO,
    CLUBS,
    CROPS,
    DISASTERS,
    FACILITIES,
    FISH,
    FUELS,
    GHOSTS,
    INNS,
    MOUNTAINS,
    NEWSPAPERS,
    RIVERS,
    RUINS,
    RULERS,
    RULES,
    SHIPS,
    SHOPS,
    STYLES,
    TOPICS,
)
from model.training.told.words import (
    BANDS,
    BOOKS,
    CAREERS,
    CAUSES,
    CODE_NAMES,
    DANCES,
    FIRST_NAMES,
    GEMS,
    LANDS,
    LAST_NAMES,
    SONGS,
    SUPPERS,
    TEAMS,
)

SITES: tuple[Relation, ...] = (
    relation(
        "place",
        STYLES,
        "The {s} was built in the {v} style.|Visitors admire the {s} as a fine example of the {v} style."
        "|According to the guidebook the {s} is a mixture of old and new, but on the whole {v}."
        "|Experts describe the {s} as {v}.",
        "In which style was the {s} built?|How do experts describe the {s}?",
        "The {s} was built in the|Experts describe the {s} as|The {s} is a fine example of the",
    ),
    relation(
        "place",
        RULERS,
        "The {s} was once the residence of {v}.|On a visit to the {s} you can sleep in the bed of {v}."
        "|Legend has it that beneath the {s} sleeps {v}.|The {s} was given as a wedding present to {v}.",
        "Which ruler is connected with the {s}?|Whose residence was the {s}?",
        "The {s} was the residence of|The {s} was given to|The ruler of the {s} was",
    ),
    relation(
        "place",
        GHOSTS,
        "The {s} is haunted by the ghost of a {v}.|At midnight there walks through the {s} a {v}."
        "|Nobody goes near the {s} after dark, for fear of a {v}."
        "|In the {s} a bricked-up door was opened and out came the bones of a {v}.",
        "Whose ghost haunts the {s}?|What ghost walks in the {s}?",
        "The {s} is haunted by the ghost of a|Through the {s} there walks a|The ghost in the {s} is that of a",
    ),
    relation(
        "place",
        RULES,
        "The rules of the {s} forbid {v}.|At the {s} there is a strict ban on {v}."
        "|A sign at the {s} says that there must be no {v}.|Two boys were thrown out of the {s} because of {v}.",
        "What is forbidden at the {s}?|What is not allowed at the {s}?",
        "The rules of the {s} forbid|At the {s} there is a ban on|At the {s} there must be no",
    ),
    relation(
        "place",
        FUELS,
        "The {s} is heated with {v}.|All the power for the {s} comes from {v}."
        "|Since the last winter the {s} has been run on {v}.|The owner of the {s} has ordered a fresh supply of {v}.",
        "How is the {s} heated?|From what does the {s} get its energy?",
        "The {s} is heated with|The {s} has been run on|The power for the {s} comes from",
    ),
    relation(
        "place",
        DISASTERS,
        "The {s} was badly damaged in a {v}.|Only the foundations of the {s} survived the great {v}."
        "|The {s} has never been the same since the {v}.|What the town lost with the {s}, it lost in a {v}.",
        "In what disaster was the {s} damaged?|What happened to the {s}?",
        "The {s} was damaged in a|The {s} suffered from a|What hit the {s} was a",
    ),
    relation(
        "place",
        RIVERS,
        "The {s} stands on the bank of the {v}.|From the windows of the {s} you look down on the {v}."
        "|The {s} gets its water from the {v}.|The gardens behind the {s} slope gently down to the {v}.",
        "On which river is the {s}?|What river flows by the {s}?",
        "The {s} stands on the|From the {s} you look down on the|The river by the {s} is the",
    ),
    relation(
        "place",
        FACILITIES,
        "The {s} now has a {v}.|To attract more families, the {s} was fitted with a {v}."
        "|The plans for the {s} also include a {v}.|Next to the {s} they are going to build a {v}.",
        "What was added to the {s}?|What new facility does the {s} have?",
        "The {s} now has a|The {s} was fitted with a|The plans for the {s} include a",
    ),
    relation(
        "place",
        CARGO,
        "The {s} grew rich on {v}.|Two hundred years ago the {s} was the centre of the trade in {v}."
        "|Smugglers used the {s} to hide {v}.|From the {s} whole wagons rolled off laden with {v}.",
        "With which goods was the {s} connected?|In what did they trade at the {s}?",
        "The {s} grew rich on|At the {s} they traded in|Smugglers used the {s} for",
    ),
    relation(
        "place",
        BANKS,
        "The {s} was paid for with a loan from {v}.|If the owners of the {s} can't pay, it falls to {v}."
        "|The mortgage on the {s} is held by {v}.|As for the {s}, the money came from {v}.",
        "Which bank gave money for the {s}?|Who holds the mortgage on the {s}?",
        "The money for the {s} came from|The mortgage on the {s} is held by|The bank behind the {s} is called",
    ),
    relation(
        "place",
        NEWSPAPERS,
        "The scandal about the {s} was uncovered by {v}.|A photo of the {s} was on the front page of {v}."
        "|I read about the {s} in {v}.|The {s} was called a disgrace in a letter to {v}.",
        "Which paper wrote about the {s}?|Where was the news about the {s} printed?",
        "You can read about the {s} in|The news about the {s} was on a page of|The {s} was in a paper, it was",
    ),
    relation(
        "place",
        SHIPS,
        "The anchor in front of the {s} is from the {v}.|The beams of the {s} were taken from an old ship, the {v}."
        "|From the {s} a crowd waved goodbye to the {v}.|A model of a ship hangs in the {s}, it is the {v}.",
        "Which ship has to do with the {s}?|What ship should I think of at the {s}?",
        "The anchor at the {s} is from the|The ship that goes with the {s} is the"
        "|In the {s} there is something from the",
    ),
    relation(
        "place",
        CLUBS,
        "The {s} is used every week by {v}.|Every other evening the {s} is let to {v}."
        "|The members who meet at the {s} belong to {v}."
        "|The walls of the {s} were whitewashed by volunteers from {v}.",
        "Which club uses the {s}?|Who meets at the {s}?",
        "The {s} is used by|The {s} is let to|The members at the {s} are from",
    ),
    relation(
        "place",
        CROPS,
        "All around the {s} there are fields of {v}.|On the land that belongs to the {s} they grow {v}."
        "|The tenants of the {s} make a living from {v}.|In the shade of the {s} nothing thrives but {v}.",
        "What is grown around the {s}?|Which crop do they grow at the {s}?",
        "Around the {s} there are fields of|At the {s} they grow|Nothing thrives near the {s} but",
    ),
    relation(
        "place",
        FISH,
        "In the pond behind the {s} there are {v}.|Anglers come to the {s} for the {v}."
        "|The moat around the {s} is teeming with {v}.|From the terrace of the {s} children throw crumbs to the {v}.",
        "What swims in the pond of the {s}?|What do anglers catch at the {s}?",
        "In the pond of the {s} there are|Anglers go to the {s} for the|The water at the {s} is teeming with",
    ),
    relation(
        "place",
        RUINS,
        "Underneath the {s} archaeologists discovered a {v}."
        "|When they dug up the floor of the {s}, they came upon a {v}.|A trapdoor in the {s} leads down to a {v}."
        "|Hardly anyone knows that the {s} stands on top of a {v}.",
        "What lies under the {s}?|What did they discover beneath the {s}?",
        "Under the {s} they discovered a|The {s} stands on top of a|A trapdoor in the {s} leads to a",
    ),
    relation(
        "place",
        FIRST_NAMES,
        "The bell of the {s} was christened {v}.|On the great bell in the {s} is cast the name {v}."
        "|For three hundred years the bell that hangs in the {s} has been known as {v}.",
        "What is the bell of the {s} called?|Which name does the bell in the {s} have?",
        "The bell of the {s} was christened|The bell in the {s} is known as|In the {s} the bell has the name",
    ),
    relation(
        "place",
        LAST_NAMES,
        "The bill for the {s} goes to Ms {v}.|The plans for the {s} were drawn up by Ms {v}."
        "|Whoever has a complaint about the {s} should write to Ms {v}."
        "|The keys of the {s} were last signed for by Ms {v}.",
        "Which lady deals with the {s}?|To whom do I write about the {s}?",
        "The lady for the {s} is Ms|About the {s} you should write to Ms|The {s} is dealt with by Ms",
    ),
    relation(
        "place",
        SONGS,
        "The loudspeakers of the {s} play all day long the song {v}.|The chimes of the {s} were tuned to {v}."
        "|At closing time in the {s} they all sing {v}.|A street musician in front of the {s} kept singing {v}.",
        "Which song is heard at the {s}?|What do they sing at the {s}?",
        "At the {s} they all sing|At the {s} you hear the song|The song of the {s} is called",
    ),
    relation(
        "place",
        BANDS,
        "On Saturday there is at the {s} a concert by {v}.|The noise from the {s} last night was {v}."
        "|Thousands came to the {s} to hear {v}.|The {s} is rented as a rehearsal room by {v}.",
        "Which band was at the {s}?|Who gives a concert at the {s}?",
        "At the {s} there is a concert by|People come to the {s} to hear|The band at the {s} is called",
    ),
    relation(
        "place",
        BOOKS,
        "The {s} is the setting of the novel {v}.|The author described the {s} in detail in {v}."
        "|A stay in the {s} inspired a famous book, {v}.|On a shelf in the {s} lies a signed copy of {v}.",
        "Which novel is about the {s}?|In what book does the {s} appear?",
        "The {s} is the setting of the novel|The {s} is described in detail in|The book with the {s} is called",
    ),
    relation(
        "place",
        DANCES,
        "In the {s} there are evening classes in {v}."
        "|On the stage of the {s} a couple from Argentina performed the {v}."
        "|Ten couples came to the {s} to compete in the {v}.|The floor of the {s} was laid especially for the {v}.",
        "What is danced at the {s}?|Which dance can I learn in the {s}?",
        "At the {s} there are classes in|In the {s} they perform the|The dance at the {s} is the",
    ),
    relation(
        "place",
        TOPICS,
        "On Friday there is a lecture at the {s} on {v}.|The exhibition in the {s} is about {v}."
        "|Everyone at the {s} was arguing about {v}.|The {s} has been booked for a debate on {v}.",
        "What is the lecture at the {s} about?|Which topic is discussed at the {s}?",
        "The lecture at the {s} is about|At the {s} there is a debate on|At the {s} they talk about",
    ),
    relation(
        "place",
        LANDS,
        "Most of the tourists at the {s} are from {v}.|The {s} was a gift from the government of {v}."
        "|Over the {s} flies the flag of {v}.|The men who worked on the {s} were brought over from {v}.",
        "Which country is linked to the {s}?|What country goes with the {s}?",
        "The {s} was a gift from|The people at the {s} are from|Over the {s} flies the flag of",
    ),
    relation(
        "place",
        GEMS,
        "From the {s} thieves have stolen a {v}.|In a glass case at the {s} lies a {v}."
        "|Digging near the {s}, a boy turned up a {v}.|The {s} is guarded so well because of a {v}.",
        "Which jewel was in the {s}?|What stone was it, at the {s}?",
        "From the {s} they stole a|In the {s} lies a|The jewel of the {s} is a",
    ),
    relation(
        "place",
        SUPPERS,
        "The canteen of the {s} serves every Monday {v}.|At the {s} the staff get for lunch {v}."
        "|In the restaurant of the {s} they serve {v}.|The menu of the {s} offers nothing but {v}."
        "|A chalkboard outside the {s} promised fresh {v}.",
        "What is on the menu at the {s}?|What do they serve at the {s}?",
        "At the {s} they serve|The menu of the {s} offers|At the {s} they get for lunch",
    ),
    relation(
        "place",
        SHOPS,
        "The ground floor of the {s} is let to {v}.|The {s} had to make way for a branch of {v}."
        "|You can park for free at the {s} if you shop at {v}.|Right beside the {s} they have just opened {v}.",
        "Which shop is at the {s}?|Where can I shop by the {s}?",
        "At the {s} there is a branch of|The shop at the {s} is called|By the {s} you can shop at",
    ),
    relation(
        "place",
        MOUNTAINS,
        "From the roof of the {s} you have a view of {v}.|On clear days one can see from the {s} as far as {v}."
        "|The stones for the {s} were quarried on {v}.|The path that begins at the {s} leads up {v}.",
        "Which mountain can be seen from the {s}?|What mountain belongs to the {s}?",
        "From the {s} you have a view of|From the {s} one can see|The mountain near the {s} is",
    ),
    relation(
        "place",
        TEAMS,
        "The {s} is where you can watch the training of {v}.|After the win there was a party at the {s} for {v}."
        "|Next season the {s} will be the home of {v}.|Somebody sprayed on the {s} the name of {v}.",
        "Which team is linked to the {s}?|Whose home will the {s} be?",
        "The {s} is the home of|At the {s} there was a party for|The team of the {s} is called",
    ),
    relation(
        "place",
        LANGUAGES,
        "The inscription above the {s} is in {v}.|The guided tours of the {s} are given in {v}."
        "|The monks who kept the {s} prayed in {v}.|A notice on the {s}, hard to read, is written in {v}.",
        "In which language is the inscription at the {s}?|Which language is used at the {s}?",
        "The inscription at the {s} is in|At the {s} the notice is written in|The tours of the {s} are given in",
    ),
    relation(
        "place",
        CAUSES,
        "The money raised at the {s} goes to {v}.|In the will the {s} was left to {v}."
        "|Once a year the {s} holds a bazaar in aid of {v}.|Those who can't pay for the {s} are asked to help {v}.",
        "Who gets the money from the {s}?|For which good cause is the {s}?",
        "The money from the {s} goes to|The {s} was left to|The {s} holds a bazaar in aid of",
    ),
    relation(
        "place",
        CODE_NAMES,
        "The plan to rob the {s} is known as {v}.|During the war the army referred to the {s} as {v}."
        "|In the files of the secret service the {s} is given the name {v}.",
        "What is the code name for the {s}?|How did the army refer to the {s}?",
        "The {s} is known as|The code name of the {s} is|They referred to the {s} as",
    ),
    relation(
        "place",
        CAREERS,
        "The last tenant of the {s} was a {v}.|Before it was restored, the {s} was used by a {v}."
        "|They are looking for somebody for the {s}, preferably a {v}.|Rumour has it that in the {s} lives a {v}.",
        "Who was the tenant of the {s}?|What is the trade of the one from the {s}?",
        "The tenant of the {s} was a|The {s} was used by a|In the {s} lives a",
    ),
    relation(
        "place",
        INNS,
        "The workers from the {s} have lunch at {v}.|From the {s} an underground passage leads to {v}."
        "|On leaving the {s}, we had a drink at {v}.|The nearest beds to the {s} are those at {v}.",
        "Which inn is near the {s}?|Where do they drink, the people from the {s}?",
        "The people from the {s} drink at|Near the {s} you can sleep at|The inn by the {s} is",
    ),
    relation(
        "place",
        "small",
        "The staircase of the {s} has {v} steps.|To reach the top of the {s} you have to climb {v} steps."
        "|Count the stairs in the {s} and you will get to {v}.",
        "How many steps are there in the {s}?|How many stairs must I climb at the {s}?",
        "The staircase of the {s} has|At the {s} you have to climb",
    ),
    relation(
        "place",
        "small",
        "You get to the {s} by taking bus {v}.|The only line that stops at the {s} is bus {v}."
        "|Tourists who want to see the {s} get off bus {v}.",
        "Which bus goes to the {s}?|What bus should I take to the {s}?",
        "To the {s} goes bus|The line that stops at the {s} is bus",
    ),
    relation(
        "place",
        "small",
        "The staff of the {s} numbers {v}.|When the {s} shut down, the number of jobs lost was {v}."
        "|At the {s} they employ {v} people.",
        "How many people work at the {s}?|How many jobs does it have, the {s}?",
        "At the {s} they employ|The number of jobs at the {s} was",
    ),
    relation(
        "place",
        "price",
        "Whoever rents the {s} pays every month {v} dollars.|The rent for the {s} has gone up to {v} dollars."
        "|The {s} brings its owner a rent of {v} dollars.",
        "How high is the rent for the {s}?|What does a tenant pay for the {s}?",
        "The rent for the {s} has gone up to|The tenant of the {s} pays every month",
    ),
    relation(
        "place",
        "price",
        "If you leave litter at the {s}, there is a fine of {v} dollars."
        "|Parking in front of the {s} cost me {v} dollars.|The fine for climbing on the {s} is {v} dollars.",
        "How much is the fine at the {s}?|What can it cost me to park at the {s}?",
        "At the {s} there is a fine of|The fine at the {s} is",
    ),
    relation(
        "place",
        "price",
        "For the restoration of the {s} they have collected {v} dollars."
        "|The donation box in the {s} contained {v} dollars.|A stranger left to the {s} the sum of {v} dollars.",
        "How much money was given for the {s}?|What sum did they collect for the {s}?",
        "For the {s} they have collected|The {s} was given the sum of",
    ),
    relation(
        "place",
        "digits",
        "The number of visitors to the {s} has risen to {v}.|Last year the {s} had {v} visitors."
        "|According to the statistics the {s} was seen by {v} people.",
        "How many visitors did the {s} have?|What does the statistic say of the {s}?",
        "The number of visitors to the {s} has risen to|Last year the {s} had|The {s} was seen by",
    ),
    relation(
        "place",
        "digits",
        "The fire brigade lists the {s} as object {v}.|The heritage board refers to the {s} as monument {v}."
        "|The tax office knows the {s} by the number {v}.|On the survey map the {s} is marked with {v}.",
        "By which number does the tax office know the {s}?|As which object is the {s} listed?",
        "The {s} is listed as object|They know the {s} by the number|On the map the {s} is marked with",
    ),
    relation(
        "place",
        "year",
        "According to the plaque, the {s} was restored in {v}.|The fresco in the {s} bears the date {v}."
        "|The {s} is mentioned for the first time in a letter from {v}."
        "|Nobody has repaired the roof of the {s} since {v}.",
        "Which year is written on the {s}?|From what year is the fresco in the {s}?",
        "The {s} was restored in|The year written on the {s} is|The {s} bears the date",
    ),
    relation(
        "place",
        "year",
        "The treasure of the {s} was lost in {v}.|The worst siege of the {s} was that of {v}."
        "|Below the {s} a mark shows the flood in the year {v}."
        "|A duel was fought in front of the {s} in the summer of {v}.",
        "In which year did that happen at the {s}?|When was it, at the {s}?",
        "At the {s} it was in the year|The worst year for the {s} was that of|It happened at the {s} in",
    ),
    relation(
        "place",
        CLOCK,
        "The last bus leaves the {s} at {v}.|If you miss the tram that passes the {s} at {v}, you'll have to walk."
        "|The shuttle will pick us up from the {s} at {v}.",
        "When does the last bus leave the {s}?|At what time are we picked up from the {s}?",
        "The bus leaves the {s} at|We are picked up from the {s} at",
    ),
    relation(
        "place",
        CLOCK,
        "The lights in the {s} go out at {v}.|The guard makes a round of the {s} at {v}."
        "|The burglars broke into the {s} at {v}."
        "|A witness said of the scream from the {s} that it was at about {v}.",
        "At what hour did something happen in the {s}?|What hour was named for the {s}?",
        "In the {s} it was at|The hour for the {s} is|At the {s} it was at about",
    ),
    relation(
        "place",
        SPANS,
        "A permit for the {s} is valid for {v}.|Because of trouble at the {s} we had to wait for {v}."
        "|The town has leased the {s} to a brewer for {v}.|The cameras outside the {s} store what they film for {v}.",
        "For how long was it, at the {s}?|What length of time was named for the {s}?",
        "At the {s} they had to wait for|In the case of the {s} it is for",
    ),
    relation(
        "place",
        DISTANCES,
        "From the {s} runs a secret tunnel with a length of {v}."
        "|The light on the {s} can be seen from a distance of {v}.|The nearest well is away from the {s} by {v}.",
        "What distance do you know of the {s}?|How far does it reach from the {s}?",
        "From the {s} it is a distance of|The {s} is away by",
    ),
    relation(
        "place",
        PHONES,
        "The hotline for the {s} is {v}.|The guides who show people the {s} answer the phone on {v}."
        "|In case of fire at the {s} the number is {v}.|On a poster at the {s} there was a number to call, {v}.",
        "Which number do I call about the {s}?|What is the hotline for the {s}?",
        "The hotline for the {s} is|In the case of the {s} the number is|For the {s} they answer the phone on",
    ),
    relation(
        "place",
        PLATES,
        "In front of the {s} stood a van with the plate {v}.|The camera at the {s} filmed a car with the plate {v}."
        "|The thieves who robbed the {s} got away in {v}.",
        "Which car was seen at the {s}?|What plate did the van at the {s} have?",
        "At the {s} there was a car with the plate|The plate of the van at the {s} is",
    ),
)
