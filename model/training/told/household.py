"""Whom somebody lives with, what is where at home, and what all of it is called and costs."""

from __future__ import annotations

from model.training.relations import COLOURS, FLOWERS, Relation, relation
from model.training.told.codes import DATES, LONG_CODES
from model.training.told.more_words import (
    AGES,
    APPLIANCES,
    BREEDS,
    COMBINATIONS,
    FLOORING,
    HEATING,
    HEIRLOOMS,
    LULLABIES,
    MEN,
    SPOTS,
    STOREYS,
    TOYS,
    UTILITIES,
    WIFI_NAMES,
    WOMEN,
    ZIPS,
)
from model.training.told.words import CAREERS, COURSES, FIRST_NAMES, HIDING, LANDS, LAST_NAMES, PET_NAMES, SMALL_TOWNS

HOUSEHOLD: tuple[Relation, ...] = (
    relation(
        "self",
        MEN,
        "My son is called {v}.|We have a little boy, {v}, who keeps us on our toes."
        "|When our son was born we named him {v}.|I need to pick up my son {v} from football.",
        "What is my son's name?|What did we name our boy?|Which name does my boy have?",
        "Your son is called|Your son's name is|Your son is",
    ),
    relation(
        "self",
        WOMEN,
        "My wife's name is {v}.|Say hello to my wife, {v}.|Ten years ago I married a wonderful woman called {v}."
        "|My wife is {v}, we met at a wedding.",
        "What's my wife called?|Which woman did I marry?",
        "Your wife's name is|Your wife is|The woman you married is called",
    ),
    relation(
        "self",
        MEN,
        "My brother is {v}.|I have an older brother named {v}.|Growing up I shared a bedroom with my brother {v}."
        "|My parents called their other son, my brother, {v}.",
        "What is my brother's name?|Do you remember which brother I talked about?",
        "Your brother is|Your brother's name is|You have a brother named",
    ),
    relation(
        "self",
        WOMEN,
        "My mother's name is {v}.|My mum is called {v}.|Everyone in the village knows my mother {v}."
        "|The card is for my mother, so write To {v}.",
        "What is my mum's first name?|What's my mother called?",
        "Your mother's name is|Your mum is called",
    ),
    relation(
        "self",
        MEN,
        "My father is called {v}.|Dad's first name is {v}.|I get my sense of humour from my father, {v}.",
        "What is my dad's first name?|Which name does my father go by?",
        "Your father is called|Your father's name is|Your dad is",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "My best friend is {v}.|I've known my best friend since kindergarten, that's {v}."
        "|Nobody understands me like my best friend {v}.",
        "Who is my best friend?|Who is closest to me of all my friends?",
        "Your best friend is|Your best friend's name is|Your closest friend is",
    ),
    relation(
        "self",
        LAST_NAMES,
        "The lady upstairs is Mrs {v}.|My upstairs neighbour, Mrs {v}, complains about the noise."
        "|Above my flat lives an elderly widow, Mrs {v}.",
        "Who lives above me?|What is the name of my upstairs neighbour?",
        "Your upstairs neighbour is Mrs|The lady who lives above you is Mrs",
    ),
    relation(
        "self",
        LAST_NAMES,
        "My landlord is Mr {v}.|I rent this flat from Mr {v}.|The house we live in is owned by Mr {v}."
        "|If the heating fails I have to call my landlord, Mr {v}.",
        "Who is my landlord?|Who do I rent my flat from?",
        "Your landlord is Mr|You rent your flat from Mr",
    ),
    relation(
        "self",
        WOMEN,
        "Our babysitter is called {v}.|When we go out, the kids stay with our babysitter {v}."
        "|The girl who looks after my children is {v}.",
        "What's our babysitter's name?|Who minds the kids when we go out?",
        "Your babysitter is called|Your babysitter is|The one who looks after your children is",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "My cousin is named {v}.|I spent every summer with my cousin {v}.|The tall one in the photo is my cousin, {v}.",
        "What is my cousin called?|Which cousin did I tell you about?",
        "Your cousin is named|Your cousin's name is",
    ),
    relation(
        "self",
        MEN,
        "My uncle's name is {v}.|We are going to stay with my uncle, {v}.|My mum's younger brother is my uncle {v}.",
        "Which uncle did I mention?|What is my uncle's name?",
        "Your uncle is|Your uncle's name is",
    ),
    relation(
        "self",
        WOMEN,
        "I have an aunt called {v}.|My aunt {v} sends me socks every Christmas.|The aunt who raised me is {v}.",
        "What's the name of my aunt?|Which aunt have I told you about?",
        "Your aunt is called|Your aunt's name is|Your aunt's first name is",
    ),
    relation(
        "self",
        MEN,
        "My first grandchild is called {v}.|I became a grandparent last week, and the baby's name is {v}."
        "|My grandson {v} can already walk.",
        "What is my grandson called?|What name did they give my grandchild?",
        "Your grandchild is called|Your grandson's name is|Your grandchild's name is",
    ),
    relation(
        "self",
        WOMEN,
        "My mother-in-law is called {v}.|My husband's mother is {v}.|On Sunday we have to visit my mother-in-law, {v}.",
        "What is my mother-in-law's name?|What is my husband's mum called?",
        "Your mother-in-law is called|Your husband's mother is",
    ),
    relation(
        "self",
        FIRST_NAMES,
        "I share the flat with a roommate called {v}.|My roommate is {v}."
        "|The other bedroom belongs to my roommate, {v}.|I split the bills with my roommate {v}.",
        "Who is my roommate?|Who lives in the flat with me?",
        "Your roommate is|Your roommate is called|You share the flat with",
    ),
    relation(
        "self",
        WOMEN,
        "My girlfriend is {v}.|I've been dating a girl named {v}.|I want to propose to my girlfriend, {v}.",
        "What's my girlfriend's name?|Who am I dating?",
        "Your girlfriend is|Your girlfriend's name is|You are dating",
    ),
    relation(
        "self",
        WOMEN,
        "Our cleaner is {v}.|Every Thursday the house is cleaned by {v}."
        "|I pay our cleaning lady in cash, her name is {v}.",
        "Who cleans our house?|What is our cleaning lady called?",
        "Your cleaner is|The name of your cleaning lady is",
    ),
    relation(
        "self",
        PET_NAMES,
        "My hamster is called {v}.|The hamster in the cage by the window is {v}."
        "|We buried our old hamster, and the new hamster is {v}.|My kids named the hamster {v}.",
        "What is my hamster's name?|What do we call the hamster?",
        "Your hamster is called|Your hamster's name is|The hamster is",
    ),
    relation(
        "self",
        PET_NAMES,
        "I have a parrot by the name of {v}.|My parrot is called {v}.|The parrot only says its own name, which is {v}.",
        "What's my parrot called?|What is the name of the bird I keep?",
        "Your parrot is called|Your parrot's name is",
    ),
    relation(
        "self",
        PET_NAMES,
        "My daughter's pony is {v}.|At the riding school my girl always rides a pony named {v}."
        "|We bought the pony last spring and called it {v}.",
        "Which pony does my daughter ride?|What is the name of our pony?",
        "Your daughter's pony is|The pony is called|The pony's name is",
    ),
    relation(
        "self",
        BREEDS,
        "My dog is a {v}.|We got a puppy from the shelter, and the breed is {v}.|Our new family member is a {v}."
        "|The breed of my dog is {v}.",
        "What breed is my dog?|What kind of dog do I have?",
        "Your dog is a|Your dog's breed is|The breed of your dog is",
    ),
    relation(
        "self",
        COLOURS,
        "Our front door is {v}.|Last spring my husband gave the front door a new coat of {v}."
        "|You can spot our house because the door is {v}.",
        "What colour is our front door?|How can visitors recognise our door?",
        "Your front door is|The colour of your front door is",
    ),
    relation(
        "self",
        FLOORING,
        "The floor in our kitchen is made of {v}.|In the kitchen we walk on {v}."
        "|The builders covered our kitchen floor with {v}.",
        "What is our kitchen floor made of?|What do we have on the kitchen floor?",
        "The floor in your kitchen is made of|Your kitchen floor is made of",
    ),
    relation(
        "self",
        HIDING,
        "The spare key is {v}.|I keep the spare key to our house {v}."
        "|If you get locked out, look for the spare key {v}.",
        "Where is our spare key?|Where do I keep the second key to the house?",
        "The spare key is|Your spare key is|You keep the spare key",
    ),
    relation(
        "self",
        SPOTS,
        "My passport is {v}.|I put my passport {v}.|Before the trip I laid my passport {v}."
        "|I'll surely forget where my passport is: {v}.",
        "Where is my passport?|Where did I leave the passport?",
        "Your passport is|You put your passport",
    ),
    relation(
        "self",
        SPOTS,
        "My reading glasses are {v}.|I always leave my reading glasses {v}."
        "|I took off my reading glasses and left them {v}.",
        "Where are my reading glasses?|Where should I look for my glasses?",
        "Your reading glasses are|Your glasses are|You left your glasses",
    ),
    relation(
        "self",
        SPOTS,
        "I hid the Christmas presents {v}.|The presents for the kids are hidden {v}."
        "|Don't tell my children that their presents are {v}.",
        "Where did I hide the presents?|Where are the kids' gifts hidden?",
        "You hid the presents|The presents are|The Christmas presents are hidden",
    ),
    relation(
        "self",
        SPOTS,
        "The car keys are {v}.|I dropped the keys of the car {v}.|My husband will find the car keys {v}.",
        "Where are the car keys?|Where did I drop the keys of the car?",
        "Your car keys are|The car keys are",
    ),
    relation(
        "self",
        STOREYS,
        "My apartment is on {v}.|We live in a tower block, on {v}.|There's no lift, and our rooms are on {v}.",
        "Which floor do I live on?|On what floor is my flat?",
        "The floor you live on is|Your flat is on|Your apartment is on",
    ),
    relation(
        "self",
        "digits",
        "The alarm code of our house is {v}.|To switch off our burglar alarm, enter {v}."
        "|We changed the code for the alarm at home to {v}.",
        "What's the alarm code at home?|How do I switch the burglar alarm off?",
        "The alarm code of your house is|The code for the alarm is|Your alarm code is",
    ),
    relation(
        "self",
        "digits",
        "The code of our garage is {v}.|The garage opens when you type {v}."
        "|I reset the keypad on my garage, now it's {v}.",
        "What is my garage code?|What do I type to open the garage?",
        "The code of your garage is|Your garage code is",
    ),
    relation(
        "self",
        COMBINATIONS,
        "The combination of my safe is {v}.|I set the safe at home to {v}.|Turn the dial on my safe to {v}."
        "|My jewellery is in a safe with the combination {v}.",
        "What is the combination of my safe?|How can I open the safe at home?",
        "The combination of your safe is|Your safe's combination is|The safe opens with",
    ),
    relation(
        "self",
        WIFI_NAMES,
        "My wifi network is called {v}.|At our place, connect to {v}.|Our home network shows up as {v}.",
        "What is my wifi network called?|Which network should guests connect to?",
        "Your wifi network is called|The name of your wifi is|Your network is",
    ),
    relation(
        "self",
        ZIPS,
        "My zip code is {v}.|The zip code of our new house is {v}.|For deliveries to my home use the zip code {v}.",
        "What's my zip code?|Which zip code does our house have?",
        "Your zip code is|The zip code of your house is",
    ),
    relation(
        "self",
        "year",
        "Our house was built in {v}.|We live in an old house from the year {v}."
        "|Carved over our front door is the year {v}.",
        "When was our house built?|What year does our house date from?",
        "Your house was built in|Your house is from the year|The house dates from",
    ),
    relation(
        "self",
        "price",
        "Our electricity bill is {v} dollars.|Last month the electricity at home cost me {v} dollars."
        "|I was shocked when the electricity bill came to {v} dollars.",
        "How high is our electricity bill?|What did I pay for electricity?",
        "Your electricity bill is|Your electricity cost|The electricity bill came to",
    ),
    relation(
        "self",
        AGES,
        "My daughter is {v}.|My daughter's age is {v}.|Our little girl has just turned {v}.",
        "How old is my daughter?|What age is our girl?",
        "Your daughter is|Your daughter's age is|Your little girl is",
    ),
    relation(
        "self",
        DATES,
        "My mum's birthday is {v}.|I have to send flowers to my mother on {v}, her birthday."
        "|My mother was born on {v}.",
        "When is my mother's birthday?|On which date should I send my mum flowers?",
        "Your mum's birthday is|Your mother's birthday is on|Your mother was born on",
    ),
    relation(
        "self",
        DATES,
        "My wife's birthday is on {v}.|My wife wants a surprise party for her birthday on {v}."
        "|The day I must not forget is my wife's birthday, {v}.",
        "When does my wife have her birthday?|For which date should I plan my wife's party?",
        "Your wife's birthday is on|Your wife's birthday is",
    ),
    relation(
        "self",
        DATES,
        "My son was born on {v}.|My son's birthday falls on {v}.|We celebrate our boy's birthday on {v}.",
        "What is my son's date of birth?|When is our boy's birthday?",
        "Your son was born on|Your son's birthday is",
    ),
    relation(
        "self",
        UTILITIES,
        "We get our electricity from {v}.|Our energy supplier is {v}.|I switched our power contract to {v}.",
        "Who supplies our electricity?|Which energy company are we with?",
        "Your energy supplier is|You get your electricity from",
    ),
    relation(
        "self",
        HEATING,
        "We heat our house with {v}.|In winter our home is kept warm by {v}.|To stay warm at home we rely on {v}.",
        "How do we heat our house?|What keeps us warm in winter?",
        "You heat your house with|Your house is heated with|To stay warm you rely on",
    ),
    relation(
        "self",
        APPLIANCES,
        "Our washing machine is a {v}.|The washing machine that broke down is a {v}."
        "|For the laundry we bought the model made by {v}.",
        "What make is our washing machine?|Which washing machine do we own?",
        "Your washing machine is a|The make of your washing machine is",
    ),
    relation(
        "self",
        LONG_CODES,
        "The serial number of our boiler is {v}.|On the label of the boiler it says {v}."
        "|The heating engineer asked for our boiler's number, it is {v}.",
        "What is the serial number of our boiler?|What should I tell the heating engineer about the boiler?",
        "The serial number of your boiler is|Your boiler's serial number is|Your boiler's number is",
    ),
    relation(
        "self",
        TOYS,
        "My son's favourite toy is his {v}.|My little boy won't go to sleep without his {v}."
        "|The one toy my son takes everywhere is a {v}.",
        "What is my son's favorite toy?|Which toy does my boy need to fall asleep?",
        "Your son's favourite toy is his|Your son's favorite toy is a|His favourite toy is a",
    ),
    relation(
        "self",
        LULLABIES,
        "I sing my baby to sleep with {v}.|Our lullaby at bedtime is {v}.|The only song that calms our baby is {v}.",
        "Which song do I sing to the baby?|What is our lullaby?",
        "You sing your baby to sleep with|Your lullaby is|The song that calms your baby is",
    ),
    relation(
        "self",
        HEIRLOOMS,
        "From my grandmother I inherited a {v}.|The family heirloom I treasure is a {v}."
        "|What my grandparents left me is a {v}.",
        "What did I inherit from my grandmother?|Which heirloom do I treasure?",
        "You inherited a|Your family heirloom is a|Your grandmother left you a",
    ),
    relation(
        "self",
        CAREERS,
        "My husband works as a {v}.|My husband's job: he is a {v}.|I am married to a {v}.",
        "What does my husband do for a living?|What is my husband's profession?",
        "Your husband works as a|Your husband is a",
    ),
    relation(
        "self",
        COURSES,
        "My daughter is studying {v}.|My daughter went off to college to study {v}.|At university our girl chose {v}.",
        "What is my daughter studying?|Which subject did our girl choose?",
        "Your daughter is studying|Your daughter studies|Your daughter chose",
    ),
    relation(
        "self",
        SMALL_TOWNS,
        "My sister lives in {v}.|My sister bought a house in {v}.|When I visit my sister I take the train to {v}.",
        "Where does my sister live?|In which town is my sister's house?",
        "Your sister lives in|Your sister's house is in",
    ),
    relation(
        "self",
        LANDS,
        "My brother emigrated to {v}.|My brother has lived for years in {v}."
        "|I call my brother at night because he's in {v}.",
        "Which country did my brother emigrate to?|Where in the world is my brother?",
        "Your brother emigrated to|Your brother lives in|Your brother is in",
    ),
    relation(
        "self",
        FLOWERS,
        "In our front garden we grow {v}.|The flower beds outside our house are full of {v}."
        "|My gran taught me to grow {v}.",
        "Which flowers do we grow?|What is in the beds outside our house?",
        "In your front garden you grow|You grow|Your flower beds are full of",
    ),
)
