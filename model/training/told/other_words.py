"""More values by kind, for what people do and for what is told of places and things.

None of it is in the evaluation (`held_out.shared_with` is asked in the tests). Names of papers, banks, airlines, ships,
radio stations, shops, inns, programs, prizes, clubs and rulers are made up. It knows nothing of tokens.
"""

from __future__ import annotations

from model.training.relations import words

# Made-up names.
NEWSPAPERS = words(
    "The Morning Lantern|Daily Compass|The Evening Bugle|Harbour Gazette|The Sunday Pebble|Valley Observer"
    "|The Plain Speaker|City Whistle|The Weekly Plough|Coastal Times|The Green Page|Sparrow Post|The Copper Herald"
    "|Midland Argus|The Penny Mirror|Border Chronicle"
)
BANKS = words(
    "Halden Trust|Meridian Savings|Corvin Bank|First Lakeland|Oakmoor Bank|Silver Harbour Trust|Tarn and Sons"
    "|Weavers' Union|Ostia Credit|Penrose Bank|Bluestone Savings|Kelso Mutual|Ardent Bank|Fairacre Trust"
    "|Gullwing Credit|Stanmore Bank"
)
AIRLINES = words(
    "Skyvale|Aerolune|Nimbair|Polar Wings|Transvera|Coraljet|Albatross Air|Sunhop|Condora|Blue Meridian|Air Tamarind"
    "|Swiftair|Northlane Airways|Pacifica Express"
)
SHIPS = words(
    "Sea Sparrow|Northern Lass|Black Petrel|Queen of Tides|Gallant Anne|Morning Watch|Saint Elmo|Iron Duchess"
    "|Fair Isabel|Wandering Star|Cormorant|Golden Tern|Esperanza|Polar Maid|Silent Mary|Bold Venture|Lady of Leith"
)
STATIONS = words(
    "Radio Tulip|Coast FM|Radio Albatross|Wave Nine|Radio Kiwi|Valley Sound|Antenna West|Radio Orbit|Dawn FM"
    "|Radio Pelargo|Studio Lima|Hill Country FM|Night Signal|Radio Marzipan"
)
SHOPS = words(
    "Buyrite|Fenwick's|Corner Basket|Harrow and Sons|Penny Barn|Savemore|Tilly's|The Big Shelf|Mondo Market|Larder Lane"
    "|Bargain Dock|Goodwin's|Green Crate|Pike and Daughters|Kwikbag"
)
INNS = words(
    "the Drunken Parrot|the Blue Boar|the Three Tuns|the Anchor and Crown|the Lame Duke|the Brass Monkey"
    "|the Sailor's Rest|the Laughing Mule|the Black Kettle|the Wheatsheaf|the Old Compass|the Jolly Miller"
    "|the Two Pigeons|the Rising Moon|the Fat Friar"
)
APPS = words(
    "Jotter|Pingle|Mapsy|Snaplet|Chirpo|Dotline|Fetchly|Swapbox|Lingopal|Tuneloft|Wattly|Stepster|Foodiego|Quizzard"
    "|Nookly|Zipnote"
)
AWARDS = words(
    "Silver Quill|Golden Anvil|Harcourt Medal|Blue Ribbon Prize|Lindgren Cup|Order of the Oak|Bronze Lion"
    "|Founders' Shield|Meyerbeer Prize|Crystal Globe|People's Award|Young Talent Prize|Amber Star|Navarre Grant"
    "|Copper Feather"
)
CLUBS = words(
    "the Lantern Society|the Rowing Club|the Friends of the Owl|the Young Farmers|the Chess Circle|the Guild of Weavers"
    "|the Women's League|the Scouts|the Alpine Club|the Poets' Union|the Harmony Choir|the Bellringers|the Rotary Club"
    "|the Kennel Club|the Veterans' Association|the Model Plane Club"
)
RULERS = words(
    "King Harald|Queen Isolde|Emperor Otto|Duke Alfonso|Princess Irina|Sultan Murad|King Rupert|Queen Adela"
    "|Prince Vasily|Countess Marina|Tsar Boris|Empress Livia|Baron Egmont|Lady Margery|Prince Casimir|King Edmund"
)

# On the map.
RIVERS = words(
    """Danube Rhine Loire Thames Elbe Tagus Volga Ganges Mekong Zambezi Orinoco Yukon Tiber Seine Oder Vistula Douro
    Shannon"""
)
MOUNTAINS = words(
    "Ben Nevis|Mount Fuji|Mont Blanc|Kilimanjaro|Mount Etna|the Matterhorn|Table Mountain|Denali|Mount Olympus|K2"
    "|Snowdon|Aconcagua|Mount Ararat|the Eiger|Mount Cook|the Zugspitze"
)
ISLANDS = words(
    """Crete Bali Madeira Corsica Tasmania Zanzibar Skye Sardinia Rhodes Borneo Bornholm Mauritius Tahiti Ibiza Sicily
    Gotland"""
)

# What is eaten and drunk.
CHEESES = words(
    "cheddar|gouda|brie|feta|gruyere|roquefort|mozzarella|emmental|camembert|halloumi|parmesan|ricotta|stilton|pecorino"
    "|gorgonzola"
)
WINES = words(
    "Merlot|Riesling|Chianti|Malbec|Rioja|Burgundy|Chablis|Port|Sherry|Pinot Noir|Bordeaux|Prosecco|Tokay|Chardonnay"
    "|Beaujolais"
)
TOPPINGS = words(
    "ham|anchovies|pepperoni|capers|peppers|onions|salami|sweetcorn|pineapple|rocket|tuna|bacon|blue cheese|jalapenos"
    "|chopped garlic"
)

# What people do, are and say.
HABITS = words(
    "snoring|humming|whistling at night|cracking knuckles|interrupting people|slamming doors|chewing pens"
    "|leaving lights on|talking in the cinema|borrowing socks|telling old jokes|misplacing keys|tapping on the table"
    "|spoiling surprises|hoarding newspapers|singing in the bath"
)
EXCUSES = words(
    "a flat tyre|a power cut|the traffic|a family visit|a broken alarm clock|a burst pipe|a lost key|a nosebleed"
    "|the snow|a strike|a cancelled train|a toothache|the school run|a fallen tree|a police check|a wedding rehearsal"
)
POSITIONS = words(
    "goalkeeper|left back|striker|centre forward|winger|right back|midfielder|sweeper|captain|substitute|playmaker"
    "|defender|pitcher|quarterback|point guard|scrum half"
)
OFFICES = words(
    "treasurer|secretary|chairperson|spokesperson|deputy mayor|press officer|archivist|quartermaster|auditor"
    "|class president|safety officer|ombudsman|youth leader|bookkeeper|honorary president"
)
DEPARTMENTS = words(
    "accounting|sales|marketing|logistics|human resources|research|customer service|quality control|purchasing"
    "|legal affairs|product design|public relations|data protection|maintenance|payroll|exports"
)
TOPICS = words(
    "politics|the weather|football results|the stock market|black holes|gardening|old tractors|royal weddings"
    "|climate change|vampires|the Roman Empire|steam trains|healthy eating|conspiracies|house prices|modern art"
    "|the moon landing|bees"
)
RELATIVES = words(
    "grandmother|godfather|great-aunt|stepfather|eldest sister|uncle|grandparents|godmother|second cousin|foster mother"
    "|twin brother|great-grandfather|half-sister|stepmother|brother-in-law"
)
HAIRSTYLES = words(
    "ponytail|mohawk|bob|crew cut|long braid|perm|bun|fringe|mullet|side parting|pixie cut|topknot|pair of plaits"
    "|buzz cut|quiff"
)
SAYINGS = words(
    "Easy does it|No pain, no gain|Slow and steady|Let it be|Waste not, want not|Seize the day|Never say never"
    "|Keep it simple|Work hard, play hard|Less is more|Better late than never|Live and let live|Time is money"
    "|Practice makes perfect|Look before you leap|One step at a time"
)
PAINTS = words(
    "watercolour|charcoal|oils|acrylics|pastel|ink|gouache|egg tempera|coloured pencil|wax crayon|red chalk"
    "|spray paint|felt pen|biro"
)

# What belongs to places.
STYLES = words(
    "Gothic|Baroque|Romanesque|Art Deco|neoclassical|Victorian|Moorish|Bauhaus|Tudor|rococo|Byzantine|colonial"
    "|brutalist|Georgian|Renaissance"
)
GHOSTS = words(
    "monk|drowned sailor|grey lady|headless rider|miller|bride|drummer boy|hanged judge|chimney sweep|night watchman"
    "|jilted groom|mad fiddler|gravedigger|piper|small child|beheaded duke"
)
RULES = words(
    "smoking|swimming|whistling|camping|fishing|cycling|flash photography|ball games|barbecues|feeding the ducks"
    "|loud music|skateboards|chewing gum|running|drones|picnics"
)
FUELS = words(
    "diesel|coal|wood pellets|solar power|natural gas|petrol|steam|peat|rapeseed oil|hydrogen|kerosene|propane"
    "|wind power|charcoal|biogas|ethanol"
)
DISASTERS = words(
    "flood|fire|landslide|thunderstorm|gas explosion|riot|bombing|tornado|lightning strike|dam burst|snowstorm"
    "|plague of rats|tidal wave|siege|mudslide"
)
FACILITIES = words(
    "sauna|playground|gift shop|roof terrace|lift|cloakroom|skate park|first-aid room|cinema|reading room|wine bar"
    "|swimming pool|climbing wall|nursery|laundry|tea room|squash court"
)
CARGO = words("salt|timber|coal|amber|sugar|tobacco|cotton|whale oil|furs|tea|tin|wheat|cocoa|spices|rum|indigo|ivory")
CROPS = words(
    "barley|rye|sunflowers|potatoes|hops|maize|sugar beet|flax|oats|rapeseed|lavender|wheat|clover|soybeans|hemp|garlic"
)
FISH = words("carp|trout|pike|perch|eels|koi|goldfish|catfish|tench|sturgeon|minnows|sticklebacks|bream|newts|crayfish")
RUINS = words(
    "Roman bath|Viking grave|plague pit|bomb shelter|tin mine|crypt|dungeon|bricked-up well|medieval kiln"
    "|smugglers' passage|salt mine|wine store|Celtic shrine|rock tomb|cistern|bunker|treasure chamber"
)

# What belongs to things.
SCENTS = words(
    "tobacco|vanilla|wet dog|mothballs|fresh paint|garlic|lavender|petrol|cinnamon|old books|fish|smoke|camphor|soap"
    "|burnt toast|sandalwood|pine needles|cheap perfume"
)
SHAPES = words(
    "triangle|hexagon|teardrop|pyramid|heart|star|shell|cube|barrel|horseshoe|crescent|diamond|pear|bell|sphere|cone"
    "|leaf"
)
HOUSE_ROOMS = words(
    "pantry|laundry room|hallway|guest bedroom|nursery|bathroom|dining room|garage|study|conservatory|boiler room|loft"
    "|living room|music room|utility room|spare room"
)
CURRENCIES = words(
    "euros|yen|pesos|rupees|Swiss francs|dinars|roubles|pounds sterling|zlotys|rand|won|forints|dirhams|shillings"
    "|kroner|Thai baht"
)
PARTS = words(
    "hinge|spring|gasket|fuse|drive belt|handle|valve|switch|power cable|battery pack|gear wheel|rubber seal|lens cap"
    "|screw|knob|bracket|lid|strap"
)
CLEANERS = words(
    "vinegar|baking soda|soapy water|lemon juice|turpentine|toothpaste|methylated spirits|beeswax|steam|ammonia"
    "|washing powder|linseed oil|a dry cloth|glycerine|rubbing alcohol"
)
EVENTS = words(
    "wedding|funeral|picnic|birthday party|christening|school reunion|garden fete|masked ball|jumble sale|trade fair"
    "|retirement party|golden jubilee|street festival|charity gala|beach party"
)
DANGERS = words(
    "magnets|open flames|children|damp walls|radiators|direct sunlight|strong acids|salt water|microwaves|sharp blades"
    "|loudspeakers|aerosol cans|running water|mobile phones|cold draughts|bleach"
)
CONTAINERS = words(
    "crate|hatbox|tin trunk|sports bag|biscuit tin|wicker hamper|pillowcase|steel drum|shoebox|plastic tub|jute sack"
    "|wine barrel|bin bag|cardboard tube|velvet pouch|jewellery case"
)
