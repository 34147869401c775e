"""More of what is told in a chat, by kind: the values of `household`, `errands` and `chatter`.

None of it is in the evaluation (`held_out.shared_with` is asked in the tests). Firms, brands, shops, series, authors,
addresses in the net and numbers are made up. It knows nothing of tokens.
"""

from __future__ import annotations

import random
from itertools import product

from model.training.relations import words

# Names of people.
WOMEN = words(
    """Alma Annika Beth Carmen Charlotte Daniela Dolores Ebony Elsa Emily Farah Francesca Georgia Hilda Holly Ines
    Jade Josephine Judith Julia Karin Kirsten Lauren Lena Lucy Maeve Maya Megan Mina Miriam Nicole Olivia Paloma
    Paige Rita Rosemary Ruth Samira Sheila Silvia Sophie Stella Susan Tara Thea Una Violet Wanda Yara Zuzana"""
)
MEN = words(
    """Adam Alan Andre Anton Arthur Ben Carlos Cedric Craig Daniel David Diego Dylan Eric Ethan Fabian Francis George
    Gerald Graham Henry Ian Igor Isaac Jack Joel Jorge Joseph Keith Kevin Leon Leroy Louis Luca Mark Martin Max
    Mohammed Neil Noah Oliver Paul Peter Philip Raul Robin Ryan Sean Timothy Vincent William"""
)

# Names of shops, firms and brands.
SUPERMARKETS = words(
    "Freshbarn|Goodbasket|Penny Larder|Greenaisle|Tolliver's|Corner Crate|Dalebrook|Bigway|Farmgate Foods|Mercato Nove"
    "|Plumtree Market|Sunnycart|Hobson's|Foodhall Nine|Brightshelf|Union Grocers"
)
BANKS = words(
    "Harrow & Finch|First Meridian|Union Crest|Coastal Savings|Bank of Tolland|Lindenbank|Penrose Trust|Northway Credit"
    "|Blackwater Mutual|Credit Alpin|Golden Acorn Bank|Merchants & Millers|Sterling Peak|Vantia|Castlegate Bank"
)
INSURERS = words(
    "Safehaven|Umbrella Mutual|Guardwell|Calmora|Trustbridge|Assuria|Pilot Mutual|Shelterstone|Everguard|Sureloop"
    "|Lionshield|Prudentia|Helmsman Direct|Wardley & Sons"
)
UTILITIES = words(
    "Voltana|Brightspark Energy|Ampleton|Greenwatt|Currentia|Lumenwell|Dynora|Powerleaf|Hydroline|Switchwell"
    "|Kilowise|Sunfeld Energy|Northern Grid|Ohmega"
)
GYMS = words(
    "Iron Temple|Fitbarn|Pulse Club|The Sweat Box|Bodyworks|Peak House|Flexory|Kettle & Bell|Muscle Mill|Activa"
    "|Stride Studio|Gravity Gym|Core Corner|The Lift Shed"
)
CAFES = words(
    "The Daily Grind|Bean & Gone|Café Mirabelle|The Blue Cup|Roasters' Row|Sugar Loaf|The Tin Kettle|Café Zentral"
    "|Morning Glory|Perk Up|The Nook|Milk & Honey|Caffè Torino|Crumbs|The Reading Mug"
)
SALONS = words(
    "Curl Up|Shear Delight|Hair by Ilona|The Cutting Room|Scissor & Comb|Mane Street|Snip & Tuck|Salon Margot"
    "|Headlines|Bella Chioma|The Parting|Blow & Go|Fringe Benefits"
)
COURIERS = words(
    "Swiftpost|Parcelhare|Redvan|Zoomcrate|Dropwell|Arrowmail|Hermelin Express|Boxrunner|Nextstep Freight|Quickstork"
    "|Pigeon Post|Overnight Bros"
)
APPLIANCES = words(
    "Hausmann|Whirlette|Zandora|Frostking|Lektra|Bellwether|Norgeko|Spinova|Kitchenova|Steelhart|Lavamatic|Domus"
    "|Coolwell|Turboline"
)
PHONE_MODELS = words(
    "Nexia 7|Pearl X|Zento Mini|Galvo 12|Faro Plus|Kodo One|Luxon Pro|Vertu 5|Corbit Lite|Stellar 20|Mono Fold|Talka 3"
    "|Nimbo Max|Prisma SE"
)
PERFUMES = words(
    "Nuit Claire|Amber Sea|Fleur Sauvage|Velours|Vetiver Nord|Jardin Secret|Blue Tonic|Santal Royal|Rosa Antica"
    "|Soleil d'Or|White Cedar|Mistral|Oud Lumière|Petite Folie"
)
TRADESMEN = words(
    "Miller & Daughters|Pipe Dreams|Handy Andy's|Fixwell|Kowal Brothers|Top Notch Repairs|Hammerhead|Drip & Drop"
    "|Brick by Brick|Rapid Rescue|Ace Home Care|Sparks & Co|Good Neighbours Ltd"
)
CAMPS = words(
    "Pine Ridge Park|Camp Wildwood|Lakeview Meadows|Dune Camping|Camp Timberline|Seagull Bay|Birch Grove|Happy Acres"
    "|Camp Redstone|Valley View|Camping Bellariva|Moonlight Fields|Cedar Point"
)
VENUES = words(
    "the Town Hall Tavern|the Rowing Club|the Jade Palace|the Old Bakery|the Roof Garden|the Scout Hut|the Marina Club"
    "|the Bowling Barn|the Village Hall|the Botanical Garden|the Swan Inn|the Trampoline Park|the Old Fire Station"
)

# Titles, pen names and names in the net.
SERIES = words(
    "Harbour Lights|The Understudy|Cold Ledger|Station Nine|Salt & Iron|The Good Locksmith|Night Shift Miami"
    "|Queens of Leeds|Dead Letter Office|Family Recipe|The Vineyard|Orbit City|Borderline Court|Small Town Saints"
    "|The Hartwells|Murder in Tweed|Silicon Alley|Return to Fairmont"
)
PODCASTS = words(
    "Crime over Coffee|The Curious Brain|History in Pyjamas|Money for Mortals|Two Dads Talking|Sleepy Science"
    "|The Football Sofa|Startup Tears|Kitchen Confessions|The Long Walk Home|Politely Political|Ghosts of Ohio"
    "|Words about Words|The Daily Digest"
)
STATIONS = words(
    "Radio Sunrise|Coast FM|Jazz 101|Classic Wave|Radio Metro|The Beat|Mountain Radio|Talk Seven|Rock Antenna"
    "|Gold FM|Radio Marina|Kiwi FM|Night Owl Radio|Channel Blue"
)
AUTHORS = words(
    "Eliza Thornbury|Marcus Vane|Akiko Moriyama|Jorge Balmaceda|Hettie Crane|Pavel Dvorin|Nora Whitfield|Samuel Okoye"
    "|Delphine Arnaud|Ruth Abelman|Conrad Sayle|Meera Kapadia|Stig Halvorsen|Ada Fairweather|Tom Barlowe"
)
WIFI_NAMES = words(
    "PrettyFlyForAWifi|LAN-Solo|HouseOfCats|TheDen-5G|SkyNook|BillWiTheScienceFi|NoFreeLunch|Wifi-Wonderland"
    "|KeepOut2|MapleNet|LoadingDots|GrandmasRouter|SunnySide-24|TheInternetz|Fort-Blanket"
)
USERNAMES = words(
    "mooncake88|sir_naps_a_lot|greenthumb7|quiet_storm|pixelbaker|captain_toast|lunafox21|the_real_bob|salsaqueen"
    "|nightcoder|teapot_hero|jumpingbean|oldgoat64|violet_sky|mrs_marple|trailrunner9|bluecheese3|dr_doodle"
)
BLOGS = words(
    "Crumbs and Kilometres|The Lazy Gardener|Mum on Wheels|Postcards from Nowhere|Salt in My Coffee|One Pan Wonders"
    "|Yarn and Yawn|Rust and Chrome|Forty and Fabulous|Home by Dark|The Thrifty Fox|Vinyl Sundays|Notes from the Shed"
)
RIVERS = words("Nile|Rhine|Amazon|Mekong|Mississippi|Loire|Douro|Volga|Ganges|Yukon|Thames|Zambezi|Rhone|Elbe")

# At home.
SPOTS = words(
    "on the kitchen table|in the top drawer|on the bedside table|under the sofa|in the hall cupboard|beside the kettle"
    "|in the bathroom cabinet|on the piano|in the brown envelope|behind the cereal boxes|in the sewing basket"
    "|on the second shelf|in the bread bin|next to the printer|in the garden shed|under the stairs"
    "|in the green suitcase|in the glove compartment|behind the clock|at the bottom of the wardrobe"
)
STOREYS = words(
    "the ground floor|the first floor|the second floor|the third floor|the fourth floor|the fifth floor"
    "|the sixth floor|the seventh floor|the eighth floor|the ninth floor|the tenth floor|the top floor"
    "|the twelfth floor|the fourteenth floor"
)
FLOORING = words(
    "oak boards|terracotta tiles|linoleum|laminate|cork tiles|polished concrete|chequered tiles|slate tiles|parquet"
    "|vinyl|bamboo boards|white marble|pine planks|coconut matting"
)
HEATING = words(
    "gas|oil|wood pellets|a heat pump|solar panels|a coal stove|district heating|electric radiators|a log burner"
    "|underfloor heating|a tiled stove|night storage heaters"
)
BREEDS = words(
    "Labrador|poodle|beagle|dachshund|greyhound|Dalmatian|boxer|collie|whippet|husky|corgi|mastiff|pug|terrier"
    "|spaniel|bulldog|Rottweiler|chihuahua|schnauzer|pointer"
)
TOYS = words(
    "yo-yo|rocking horse|spinning top|fire engine|doll's house|toy tractor|stuffed elephant|puppet theatre|tricycle"
    "|marble run|xylophone|pirate ship|rag rabbit|plush dragon|jack-in-the-box|hobby horse"
)
LULLABIES = words(
    "Twinkle Twinkle|Golden Slumbers|Hush Little Baby|Rock-a-bye Baby|Moon River|Frère Jacques|Edelweiss"
    "|You Are My Sunshine|Scarborough Fair|Over the Rainbow|Sleep Sweet Sheep|The Owl and the Star"
)
HEIRLOOMS = words(
    "grandfather clock|silver teapot|family Bible|ruby brooch|writing desk|rocking chair|gold watch|china cabinet"
    "|Persian rug|walking stick|cuckoo clock|crystal vase|sewing box|christening gown|tea set|war medal"
)

BLOOMS = words(
    "carnations|hydrangeas|snapdragons|freesias|dahlias|sweet peas|chrysanthemums|bluebells|gladioli|anemones"
    "|camellias|foxgloves|snowdrops|crocuses|pansies|zinnias|lupins"
)

# What is bought, eaten and given.
GROCERIES = words(
    "milk|eggs|butter|flour|rice|bananas|toilet paper|washing powder|coffee filters|tomatoes|cat food|bin bags|bread"
    "|sugar|dish soap|cooking oil|frozen peas|light bulbs|batteries|oat flakes|yoghurt|onions|tin foil"
)
CAKES = words(
    "carrot cake|lemon drizzle cake|Black Forest gateau|red velvet cake|cheesecake|marble cake|Victoria sponge"
    "|chocolate fudge cake|banana loaf|coffee and hazelnut cake|strawberry cream cake|fruit cake|honey cake|Sachertorte"
    "|plum tart"
)
LOAVES = words(
    "sourdough|rye bread|French bread|ciabatta|wholemeal bread|focaccia|soda bread|pumpernickel|brioche|pitta bread"
    "|spelt bread|cornbread|challah|malt bread"
)
CHEESES = words(
    "Brie|Cheddar|Gouda|Camembert|Roquefort|Manchego|feta|mozzarella|Parmesan|Stilton|Emmental|goat's cheese|ricotta"
    "|halloumi|Gruyère|Edam"
)
TOPPINGS = words(
    "pepperoni|pineapple|anchovies|capers|ham|salami|jalapeños|artichokes|extra cheese|rocket|sweetcorn|red onions"
    "|prawns|gorgonzola|fried egg|tuna"
)
DESSERTS = words(
    "apple crumble|crème brûlée|sticky toffee pudding|tiramisu|panna cotta|chocolate mousse|pecan pie|rice pudding"
    "|baklava|banana split|lemon meringue pie|bread pudding|peach cobbler|strudel|trifle|profiteroles|key lime pie"
)
COFFEES = words(
    "flat white|cappuccino|double macchiato|latte with oat milk|mocha|black filter coffee|cortado|decaf|caramel latte"
    "|ristretto|frappé|lungo|vanilla latte|long black"
)
GIFTS = words(
    "silk scarf|spa voucher|gold bracelet|leather handbag|perfume set|food processor|cashmere jumper|watercolour set"
    "|jewellery box|garden bench|picnic hamper|yoga mat|weekend in Venice|first edition|string of pearls|velvet robe"
)
DAD_GIFTS = words(
    "tool kit|bottle of port|fishing rod|shaving set|crossword book|cordless drill|pair of slippers|tweed cap"
    "|barometer|pocket knife|chess set|golf bag|jazz record|beer mug|wool blanket|desk lamp"
)
LAUNDRY = words(
    "dinner jacket|wedding dress|pinstripe suit|silk blouse|camel coat|velvet gown|wool skirt|trench coat|linen suit"
    "|bridesmaid dress|cashmere sweater|duvet cover|prom dress|tuxedo|blazer|tartan kilt"
)
ORDERS = words(
    "desk chair|winter coat|pair of curtains|bookcase|bike helmet|yoga mat|toaster|mattress|phone case|garden hose"
    "|suitcase|rice cooker|desk lamp|backpack|shower head|keyboard|lawn mower|doormat|tent|bedside table"
)
LOST_AT = words(
    "on the bus|at the cinema|in the taxi|at the hairdresser's|on the beach|in the library|at the bakery|at the gym"
    "|in the waiting room|at the tram stop|on the train|in the hotel lobby|at the market|in the changing room"
)

# The body and the doctor.
CHECKS = words(
    "an X-ray|a blood test|a hearing test|an eye test|a skin check|a heart scan|a dental cleaning|a flu jab"
    "|a knee scan|an allergy test|a blood pressure check|a sleep study"
)
DIETS = words(
    "vegan|vegetarian|gluten-free|low-salt|dairy-free|kosher|halal|sugar-free|low-carb|pescatarian|nut-free|raw"
    "|macrobiotic"
)
EYES = words(
    "dark brown|light blue|hazel|emerald green|steel grey|amber|sea green|violet blue|almost black|golden brown"
    "|ice blue|grey green|chocolate brown"
)
HAIR = words(
    "ash blonde|jet black|strawberry blonde|copper red|dark brown|silver grey|honey blonde|auburn|snow white"
    "|platinum blonde|light brown|ginger|coal black|salt and pepper"
)
HABITS = words(
    "nail biting|interrupting people|snoring|cracking knuckles|being late|humming at work|leaving the lights on"
    "|eating in bed|talking too fast|losing keys|forgetting names|putting things off|gossiping|double-parking"
    "|skipping breakfast"
)

# Work, taste and talk.
DEPARTMENTS = words(
    "marketing|accounts|human resources|logistics|legal affairs|customer service|purchasing|quality control|sales"
    "|public relations|product design|payroll|research|IT support|event planning"
)
TOPICS = words(
    "bees in cities|medieval coins|tidal power|sleep and memory|the Silk Road|school lunches|Arctic birds|folk tales"
    "|solar cells|Roman glass|urban gardens|tax havens|deep sea fish|fake news|plastic waste|dialects|volcanoes"
)
BOARD_GAMES = words(
    "Scrabble|Monopoly|draughts|backgammon|Cluedo|Risk|dominoes|Ludo|Snakes and Ladders|Trivial Pursuit|Mahjong"
    "|Battleships|bridge|rummy|Pictionary|Connect Four"
)
POWERS = words(
    "flying|invisibility|time travel|reading minds|breathing under water|talking to animals|teleporting|super strength"
    "|freezing time|healing people|walking through walls|seeing the future|speaking every language"
)
THEMES = words(
    "the Wild West|ancient Egypt|outer space|the Roaring Twenties|pirates|a Hawaiian night|superheroes|the seventies"
    "|the jungle|a masked ball|under the sea|Bollywood|movie monsters|the circus"
)
DARES = words(
    "skydiving|bungee jumping|paragliding|husky sledding|swimming with sharks|hot air ballooning|ice climbing"
    "|white-water rafting|sumo wrestling|bobsleigh|fire walking|wing walking|sandboarding|dune driving"
)
BEACHES = words(
    "Coral Bay|Long Sands|Pebble Cove|Whale Beach|Silver Strand|Lagoon Point|Driftwood Beach|Gull Rock|Palm Cove"
    "|Sandy Hook|Mermaid Bay|Sunset Spit|Turtle Bay"
)
TRANSPORT = words(
    "bicycle|tram|scooter|bus|car|train|motorbike|taxi|skateboard|moped|underground|minibus|cable car|rowing boat"
)
GOOD_WORKS = words(
    "the food bank|the animal shelter|the old people's home|the public library|the youth club|the hospice"
    "|the fire station|the community garden|the repair café|the soup kitchen|the charity shop|the school canteen"
    "|the bird sanctuary"
)

# Numbers and codes of their own.
_RNG = random.Random(21)  # noqa: S311  # texts are drawn, not secrets
YEARS = tuple(str(year) for year in range(1958, 2025))
ZIPS = tuple(str(number) for number in _RNG.sample(range(10000, 99999), 200))
COMBINATIONS = tuple("-".join(str(_RNG.randrange(10, 100)) for _ in range(3)) for _ in range(200))
BAYS = tuple(f"level {level}, bay {bay}" for level, bay in product(range(1, 8), range(3, 90, 4)))
GATES = tuple(f"{letter}{number}" for letter, number in product("ABCDEFG", range(1, 40)))
DOSES = tuple(
    f"{amount} milligrams" for amount in (5, 10, 15, 20, 25, 30, 40, 50, 75, 80, 100, 120, 150, 200, 250, 400)
)
HEIGHTS = tuple(f"1.{part} metres" for part in range(50, 99))
WEIGHTS = tuple(f"{weight} kilos" for weight in range(46, 118))
AGES = words("two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen")
