"""What is told in a chat, by kind: the values of the relations in `relations_told`.

None of it is in the evaluation (`held_out.shared_with` is asked in the tests). Titles, companies, schools, teams and
code names are made up. It knows nothing of tokens.
"""

from __future__ import annotations

from model.training.relations import words

# Names.
PET_NAMES = words(
    """Biscuit Rufus Mittens Pepper Bandit Ziggy Marble Poppy Sprout Domino Tofu Captain Luna Whiskers Shadow Peanut
    Cosmo Freckles Snowball Pumpkin Rocky Duchess Bramble Nugget Clover Smokey Toffee Moppet Buster Ginger Pixel Yoda
    Bonnie Trixie Hazel Muffin Tinker Socks Admiral Pebbles Jellybean Scout Truffle Nutmeg Boomer Pogo Mango Gizmo
    Patches Sushi"""
)
FIRST_NAMES = words(
    """Aaron Abigail Alberto Amara Anders Anita Arjun Astrid Ayesha Bettina Brandon Brigitte Callum Cecilia Chidi
    Claudia Connor Dagmar Damian Deborah Dimitra Dominic Eduardo Eleanor Emil Erika Ewan Fatima Finn Florence Gabriel
    Giovanna Gordon Hanna Hiroshi Jacob Jasmine Kamala Kenji Lars Leila Lucas Magda Malik Marta Mateo Naomi Nina Omar
    Otto Patrick Priya Ramona Ricardo Rosa Sabine Sanjay Simon Tariq Teresa Tobias Vikram Yolanda Zainab"""
)
LAST_NAMES = words(
    """Ashworth Bergman Chaudhry Delgado Engel Fontaine Grabowski Hartley Iversen Jankovic Kimura Lindqvist Mbeki
    Nakamura Ortega Pereira Raman Sorensen Tremblay Ueda Vasquez Whitlock Yilmaz Zhang Brennan Calloway Dupont Farrell
    Goldberg Mercer Nwosu Osborne Pritchard Rahman Stavros Thornton Varga Winslow"""
)
NICKNAMES = words(
    """Sparky Bean Ducky Rambo Tiny Ace Doc Slim Sunny Chief Smiley Bear Cricket Dash Lefty Turbo Professor Boots
    Curly Spud Goose Peaches Rusty Skip Twig Blaze Zippy Monk Dizzy Flash Hawk Bubbles"""
)
HEROES = words(
    "Marie Curie|Nelson Mandela|Amelia Earhart|Rosa Parks|Albert Einstein|Frida Kahlo|Neil Armstrong|Ada Lovelace"
    "|Charles Darwin|Florence Nightingale|Isaac Newton|Mahatma Gandhi|Joan of Arc|Leonardo da Vinci|Jane Goodall"
    "|Galileo|Cleopatra|Alan Turing|Harriet Tubman|Jacques Cousteau|Socrates|Pele"
)
ARTISTS = words(
    "Monet|Picasso|Vermeer|Rembrandt|Matisse|Klimt|Hokusai|Goya|Turner|Cezanne|Chagall|Dali|Botticelli|Munch|Renoir"
    "|Kandinsky|Hopper|Degas|Caravaggio|Raphael"
)
COMPOSERS = words(
    "Mozart|Chopin|Vivaldi|Brahms|Debussy|Handel|Schubert|Mahler|Verdi|Grieg|Haydn|Dvorak|Ravel|Bartok|Liszt|Puccini"
    "|Sibelius|Rossini|Wagner|Elgar"
)

# Titles and made-up names.
BOOKS = words(
    "The Salt Road|Nine Black Candles|A Winter Debt|The Glass Monsoon|Letters to Nobody|Iron Sparrow"
    "|The Last Clockmaker|Blue Harvest|Sisters of the Reef|Midnight Arithmetic|The Tin Prophet|Cold Tea"
    "|A House of Maps|Seven Borrowed Days|The Ash Garden|Paper Wolves|North of Silence|The Cartographer's Wife"
    "|Ember and Oak|Twelve Quiet Rooms|Moonfall|The Honest Thief|Dust Pilots|Velvet Rain|The Second Shoreline"
    "|Copper Saints|Old Thunder|A Map of Sleep|The Beekeeper's Secret|Wild Harbour|Thornfield Summer|Zero Hour Tango"
    "|The Marble Child|Far Kingdoms|Stray Light|The Long Umbrella|River Grammar|Foxglove|The Quiet Engine"
    "|Burning Atlas"
)
FILMS = words(
    "Silver Highway|The Night Butcher|Two Suns Rising|Paradise Motel|Gravity Blues|The Last Penguin|Hard Landing"
    "|Dancing in Sofia|Code of Sand|Monsters at Noon|The Red Elevator|Lost Frequency|Return to Zero|Lemon Sky"
    "|Seven Fathers|Neon Samurai|Goodbye Albuquerque|The Snow Heist|Rocket Summer|Whispering Pines|Double Eclipse"
    "|The Piano Mover|Operation Tulip|Ghost Harbour|Kings of Nothing|Dark Meridian|Falling Upwards"
    "|My Cousin the Robot|Emerald Storm|The Judge's Daughter|Velvet Bullet|Sunday Forever|Crossing Kansas|Iron Ballet"
    "|Under Glass|The Midnight Florist|Sharks of Detroit|Blind Corner|Planet of Bees|One More Waltz"
)
BANDS = words(
    "Electric Teapot|The Paper Kings|Velvet Moths|Concrete Daisies|Blue Tractor|The Lost Buttons|Neon Cabbage"
    "|Midnight Plumbers|Silver Donkeys|The Broken Kites|Radio Ghosts|Seven Spoons|Cactus Parade|The Loud Librarians"
    "|Plastic Thunder|Sunday Wolves|Marble Jets|The Sleepy Giants|Purple Static|Tin Foil Choir|Desert Penguins"
    "|The Crimson Socks|Arctic Mango|Wooden Rockets|The Polite Riot|Lunar Picnic|Black Pepper Club|Echo Bakery"
    "|The Rusty Anchors|Gravity Kids|Hot Lava Trio|Stone Pyjamas|The Night Ferrymen|Magnetic Soup|Tiger Umbrella"
    "|Broken Compass|The Velcro Sisters|Cosmic Laundry|Dirty Saucers|The Fog Machines"
)
SONGS = words(
    "Rainy Platform|Hold the Moon|Seven Miles Out|Sugar and Smoke|Stay Till Sunday|Burning Letters|Blue Kitchen"
    "|Dance with the Tide|Summer on Mars|Heartbeat Express|Tell Me Slowly|Paper Boats|Golden Hour Man|No More Trains"
    "|Wild Geese|Midnight Lemonade|Carry Me North|Ordinary Angels|Glass Shoes|Turn the Radio Down|Before the Snow"
    "|City of Wolves|Half a Goodbye|Fireflies Again"
)
GAMES = words(
    "Starforge|Dungeon Bakers|Turbo Snails|Castle Rush|Skybound|Goblin Market|Pixel Farm|Deep Orbit|Kingdom of Ash"
    "|Neon Drift|Puzzle Monks|Shadow League|Mech Garden|Tiny Empires|Frostbite Arena|Dragon Taxi|Rail Barons"
    "|Cave Divers|Loop Hero Nine|Wizard Tennis"
)
COMPANIES = words(
    """Brightwell Nordvane Lumacorp Petrosol Quantrix Bluefern Harvestia Omnibyte Velcora Stonebridge Trivanta
    Cloudmere Zentaro Agrilux Medivane Solarity Ironleaf Pinecrest Datawick Optimara Kestrelworks Finovate Marrowby
    Silverline Terranova Hexacom Vidalia Northgate Capstan Ferrowell Globetek Yellowtail Arcadium Copperfield
    Redwood-Labs Windmere Plexidyne Summerhill Oakstead Juniperix"""
)
CODE_NAMES = words(
    """Nightjar Bluebird Granite Tempest Sapphire Orion Cobalt Avalanche Mirage Phoenix Tundra Juggernaut Monsoon
    Halcyon Borealis Pinwheel Rainmaker Sandstone Thunderbolt Marigold Nebula Cascade Gazelle Hurricane Icebreaker
    Jackdaw Kingfisher Lodestar Meridian Nimbus Obsidian Pegasus Quicksilver Ricochet Stardust Trident Umbra Vanguard
    Whirlwind Zephyr Basilisk Catalyst Dragonfly Eclipse Firefly Glacier Horizon Labyrinth Magellan Northstar Oracle
    Paragon Redwood Sunflower Tornado Valkyrie Waterfall Yellowstone Zeppelin Comet"""
)
SCHOOLS = words(
    "Northfield High|Saint Clare's|Riverside College|Oakwood Primary|Hillcrest Academy|Lincoln Elementary"
    "|Marlow School|Kingsbridge Grammar|Sunnydale High|Westbrook College|Cedar Grove School|Franklin Middle School"
    "|Ashford Academy|Harbour View School|Greenlane Primary|Trinity College|Eastgate High|Maple Ridge School"
    "|Bishop Latimer's|Lakeside Institute"
)
STREETS = words(
    "Maple Street|Station Road|Cherry Lane|Victoria Avenue|Mill Road|Church Street|Park Avenue|Elm Drive"
    "|Bridge Street|Queen's Road|Acorn Close|Ridge Lane|Harbour Street|Juniper Way|Poplar Avenue|Baker's Row"
    "|King Street|Willow Crescent|Canal Street|Hilltop Drive|Rose Lane|Fountain Square|Linden Avenue|Spring Street"
    "|Garrison Road"
)
TEAMS = words(
    "the Red Comets|the River Rats|the Thunderbirds|the Steel Sharks|the Flying Goats|the Ice Dragons|the Night Owls"
    "|the Golden Bulls|the Desert Foxes|the Storm Chasers|the Blue Rockets|the Wild Turkeys|the Black Bears"
    "|the Harbour Kings|the Prairie Wolves|the Iron Eagles|the Swamp Rabbits|the Green Hornets|the Mud Larks"
    "|the Vikings"
)
HOTELS = words(
    "Bellavista|Grand Meridian|Seaview|Alpenrose|Continental|Blue Lagoon|Excelsior|Astoria|Palm Court|Three Crowns"
    "|Miramar|Savoy|Bristol|Golden Lion|Edelweiss|Imperial|Park Plaza|White Swan|Ambassador|Sunrise Inn"
)
RESTAURANTS = words(
    "Luigi's|The Copper Pot|Chez Marcel|Blue Dragon|Casa Lola|The Hungry Fox|Spice Garden|Little Saigon|The Oak Table"
    "|Zorba's|Sakura House|Mama Rosa|The Pepper Mill|Bombay Nights|El Sombrero|The Green Spoon|Le Petit Chou"
    "|Trattoria Uno|The Smoking Duck|Pho Corner"
)
ROOMS = words(
    "Aurora|Everest|Mandela|Titanic|Amazon|Newton|Kilimanjaro|Pacific|Einstein|Sahara|Vesuvius|Curie|Danube|Apollo"
    "|Galapagos|Columbus|Himalaya|Mozart|Niagara|Serengeti"
)

# Where.
SMALL_TOWNS = words(
    """Aberdeen Bath Cork Dover Exeter Galway Ghent Leipzig Bologna Verona Granada Toledo Cadiz Salzburg Graz
    Innsbruck Basel Lucerne Lugano Lyon Nantes Rouen Dijon Trieste Siena Palermo Zadar Ljubljana Brno Gdansk Poznan
    Tallinn Vilnius Turku Uppsala Aarhus Odense Reykjavik Halifax Quebec Tucson Omaha Boise Savannah Tampa Memphis
    Oaxaca Cusco Quito Valdivia Accra Mombasa Kampala Agra Jaipur Hanoi Cebu Penang Sapporo Busan Hobart Dunedin"""
)
LANDS = words(
    """Norway Portugal Colombia Jamaica Tunisia Malta Finland Hungary Bolivia Laos Fiji Kuwait Rwanda Estonia Croatia
    Uruguay Senegal Mongolia Cyprus Ecuador Denmark Romania Panama Namibia Scotland Bhutan Tanzania Bulgaria"""
)
HIDING = words(
    "under the doormat|behind the mirror|in the flower pot|on top of the fridge|in the left drawer|inside the piano"
    "|under the mattress|in the blue vase|behind the toolbox|in the glove box|under the third stair|in the tea tin"
    "|behind the bookshelf|in the laundry basket|on the window sill|in the coat pocket|beneath the sink"
    "|in the fireplace|under the bench|in the shoe box"
)
DIRECTIONS = words(
    "the bus stop|the post office|the town hall|the old cinema|the fire station|the swimming pool|the pharmacy"
    "|the zoo|the petrol station|the football ground|the cemetery|the supermarket|the courthouse|the car park"
    "|the playground|the tram depot|the fish shop|the police station|the hospital|the bowling alley"
)

# What is eaten and drunk.
ICE_CREAM = words(
    "vanilla|pistachio|strawberry|mint|hazelnut|chocolate|lemon|coconut|caramel|raspberry|mango|blueberry"
    "|cookie dough|rum and raisin|salted butter|cherry|melon|tiramisu|stracciatella|passion fruit"
)
FRUITS = words(
    "bananas|peaches|cherries|plums|grapes|pears|mangoes|pineapples|strawberries|blackberries|kiwis|melons|tangerines"
    "|raspberries|papayas|lychees|grapefruits|cranberries|pomegranates|nectarines"
)
VEGETABLES = words(
    "carrots|leeks|beetroot|cabbage|broccoli|cauliflower|peas|courgettes|pumpkin|sweetcorn|celery|fennel|parsnips"
    "|kale|cucumbers|artichokes|tomatoes|green beans|asparagus|aubergines"
)
SPICES = words(
    "saffron|cinnamon|paprika|nutmeg|cumin|turmeric|rosemary|thyme|basil|cloves|cardamom|mint|oregano|coriander|sage"
    "|dill|black pepper|bay leaves|chilli flakes|star anise"
)
SUPPERS = words(
    "beef stew|chicken soup|lamb chops|vegetable lasagne|fish pie|stuffed peppers|beef stroganoff|pumpkin soup"
    "|chilli con carne|shepherd's pie|tomato risotto|pad thai|moussaka|quiche|gnocchi|ratatouille|falafel|baked trout"
    "|onion tart|gazpacho|burritos|schnitzel|pierogi|couscous|tuna salad"
)
SNACKS = words(
    "popcorn|rice cakes|potato chips|salted peanuts|dried mango|dark chocolate|cheese crackers|gummy bears|liquorice"
    "|fruit salad|cereal bars|raisins|cashews|ginger biscuits|shortbread|nachos|jelly beans|oatcakes|brownies"
    "|marzipan"
)
BREAKFASTS = words(
    "porridge|scrambled eggs|granola|toast with honey|fried bacon|croissants|cold pizza|yoghurt|bagels|boiled eggs"
    "|cornflakes|fruit salad|French toast|baked beans|rice and fish|banana bread|cheese rolls|smoked salmon"
)
TEAS = words(
    "camomile tea|peppermint tea|black coffee|orange juice|hot chocolate|iced tea|buttermilk|tonic water|cold brew"
    "|coconut water|root beer|apple juice|rose wine|sparkling water|gin and tonic|oat milk|red wine|kombucha"
    "|cappuccino"
)
ALLERGENS = words(
    "peanuts|pollen|shellfish|latex|penicillin|cat hair|bee stings|gluten|strawberries|dust mites|soy|sesame|aspirin"
    "|nickel|egg white|horse hair|cow's milk|mould|celery|mustard|wasp venom|hazelnuts"
)

# What is alive.
TREES = words(
    "hornbeam|willow|birch|maple|cedar|pear tree|lime tree|pine|ginkgo|lemon tree|cherry tree|palm|poplar|fir"
    "|magnolia|rowan|spruce|sycamore|plum tree|beech"
)
HOUSE_PLANTS = words(
    "cactus|fern|bonsai|rubber plant|spider plant|monstera|begonia|geranium|dracaena|yucca|basil plant|peace lily"
    "|jade plant|hibiscus|fuchsia|Venus flytrap|bromeliad|string of pearls"
)
WILD_ANIMALS = words(
    "giraffe|wolf|dolphin|tiger|penguin|kangaroo|fox|bear|zebra|hippo|squirrel|bison|camel|cheetah|sloth|puffin"
    "|jaguar|koala|seal|whale|gorilla|rhino|hare|deer|flamingo"
)
BIRDS = words(
    "robins|swallows|sparrows|magpies|woodpeckers|owls|finches|blackbirds|gulls|swifts|kingfishers|nightingales"
    "|cranes|crows|pheasants|peacocks|starlings|doves|kestrels|wrens"
)
PESTS = words(
    "moths|termites|mice|cockroaches|bedbugs|wasps|ants|rats|woodworm|fleas|silverfish|pigeons|bats|mosquitoes|snails"
    "|mould"
)

# What is done, learned, felt and feared.
HOBBIES = words(
    "pottery|birdwatching|knitting|woodcarving|stargazing|kayaking|calligraphy|beekeeping|origami|rock climbing"
    "|juggling|model railways|baking bread|scuba diving|embroidery|stamp collecting|magic tricks|brewing beer|surfing"
    "|genealogy|salsa dancing|orienteering|candle making|metal detecting|quilting|skateboarding|bookbinding|yoga"
    "|fly fishing|karaoke"
)
OWN_INSTRUMENTS = words(
    "piano|saxophone|double bass|drums|xylophone|triangle|viola|bongos|sitar|recorder|organ|bass guitar|French horn"
    "|kazoo|tambourine|glockenspiel|synthesizer|balalaika|didgeridoo|cornet|fiddle|theremin|castanets|steel pan"
)
TONGUES = words(
    "Icelandic|Mandarin|Russian|Italian|Norwegian|Czech|Thai|Vietnamese|Gaelic|Basque|Latin|Esperanto|Zulu|Persian"
    "|Danish|Hungarian|Catalan|Urdu|Tamil|sign language|Romanian|Bengali"
)
CODING = words(
    "Rust|Python|Haskell|Fortran|Java|Kotlin|Erlang|Swift|Ruby|Lua|Scala|Perl|Prolog|Julia|Elixir|Cobol|Go|Lisp|Pascal"
)
COURSES = words(
    "physics|geography|Latin|art history|sociology|psychology|music theory|drama|statistics|computer science"
    "|linguistics|anthropology|world literature|accounting|woodwork|ethics|marine biology|calculus|archaeology"
    "|political science"
)
FIRST_JOBS = words(
    "waiter|lifeguard|cashier|dishwasher|babysitter|paperboy|bartender|tour guide|receptionist|hotel porter"
    "|fruit picker|bicycle courier|librarian|shop assistant|baker|security guard|call centre agent|museum guide"
    "|cleaner|taxi driver"
)
CAREERS = words(
    "midwife|blacksmith|firefighter|detective|busker|beekeeper|diplomat|florist|goldsmith|mechanic|novelist|paramedic"
    "|roofer|sculptor|vet|zookeeper|watchmaker|barber|geologist|sommelier|welder|puppeteer|stuntman|dentist"
)
GOALS = words(
    "run a marathon|quit smoking|read a book a week|learn to swim|save more money|call my parents more often"
    "|eat less sugar|write a diary|go to bed earlier|get a driving licence|drink more water|give up television"
    "|meditate daily|lose ten pounds|cook at home|learn to juggle|cycle to work|spend less on clothes|start a blog"
    "|stop biting my nails"
)
PLANS = words(
    "go camping|clean the garage|visit a vineyard|bake a wedding cake|watch old westerns|paint the bedroom|go fishing"
    "|climb a hill|sort my photos|go ice skating|build a treehouse|host a barbecue|sleep in|go to the flea market"
    "|repair the roof|take a pottery class|see a ballet|plant potatoes|assemble a wardrobe|go horse riding"
)
FEARS = words(
    "spiders|heights|thunder|clowns|the dark|needles|deep water|elevators|flying|snakes|crowds|ghosts|public speaking"
    "|dogs|tunnels|blood|germs|earthquakes|mice|escalators"
)
CHORES = words(
    "ironing|washing the dishes|vacuuming|taking out the rubbish|mowing the lawn|cleaning windows|doing the laundry"
    "|dusting|filing taxes|shovelling snow|scrubbing the bath|folding clothes|weeding|defrosting the freezer"
    "|changing the sheets|mopping the floor"
)
MOODS = words(
    "cheerful|nervous|exhausted|homesick|curious|grumpy|relaxed|lonely|proud|jealous|hopeful|bored|embarrassed"
    "|furious|grateful|confused|restless|optimistic|sentimental|overwhelmed"
)
TRAITS = words(
    "patience|honesty|stubbornness|generosity|punctuality|shyness|humour|courage|modesty|vanity|loyalty|curiosity"
    "|impatience|kindness|discipline|charm|laziness|optimism"
)
ILLNESSES = words(
    "measles|malaria|pneumonia|migraine|asthma|chickenpox|bronchitis|diabetes|whooping cough|anaemia|tonsillitis"
    "|mumps|gout|hay fever|arthritis|appendicitis|scarlet fever|shingles|sinusitis|eczema"
)
BODY = words(
    "left knee|right ankle|lower back|left shoulder|right wrist|neck|left elbow|big toe|right hip|collarbone|thumb"
    "|jaw|left heel|right ear|nose|little finger|shin|stomach"
)
REMEDIES = words(
    "aspirin|ibuprofen|cough syrup|iron tablets|vitamin D|eye drops|insulin|antibiotics|magnesium|cortisone|zinc"
    "|paracetamol|nose spray|folic acid|melatonin|fish oil|antihistamines|camomile"
)
DANCES = words(
    "tango|foxtrot|polka|rumba|flamenco|ballet|tap dance|samba|breakdance|quickstep|swing|charleston|bolero|jive"
)
ROUTINES = words(
    "jogging|stretching|crosswords|a cold shower|prayer|reading the news|push-ups|feeding the birds"
    "|a walk on the beach|watering the plants|sudoku|singing scales|tai chi|checking the mail|a swim"
    "|sweeping the porch|a short nap"
)
CAUSES = words(
    "the Red Cross|animal shelters|cancer research|Doctors Without Borders|sea rescue|the food bank"
    "|rainforest protection|public libraries|clean water projects|the fire brigade|orphanages|whale protection"
    "|literacy classes|the homeless|mountain rescue|refugee aid"
)

# Things.
CARS = words(
    "Volvo|Fiat|Toyota|Skoda|Mazda|Renault|Subaru|Jeep|Mini|Peugeot|Tesla|Honda|Beetle|Saab|Lada|Citroen|Bentley"
    "|Cadillac|Dacia|Hyundai|Porsche|Chevrolet"
)
TOOLS = words(
    "saw|screwdriver|wrench|chisel|spirit level|soldering iron|crowbar|hand plane|paint roller|vice|hacksaw|pickaxe"
    "|mallet|staple gun|pair of pliers|tape measure|wheelbarrow|jigsaw|blowtorch|rake"
)
GADGETS = words(
    "drone|smartwatch|bread maker|robot vacuum|game console|tablet|coffee grinder|hair dryer|pressure cooker"
    "|microscope|record player|metal detector|sewing machine|typewriter|baby monitor|trampoline|hot tub|barbecue"
    "|punching bag|pair of skis|chess computer|rowing machine"
)
KEEPSAKES = words(
    "teddy bear|pocket watch|locket|music box|snow globe|rag doll|toy train|medal|pearl necklace|seashell|harmonium"
    "|wedding ring|fountain pen|postcard|leather belt|silver spoon|cookbook|lucky penny|quilt|tin soldier|cigar box"
)
COLLECTIONS = words(
    "stamps|fossils|beer mats|vinyl records|postcards|teapots|comic books|butterflies|old keys|snow globes|matchboxes"
    "|minerals|thimbles|bottle caps|theatre programmes|seashells|rare coins|train tickets|fridge magnets|marbles"
    "|corkscrews"
)
CLOTHES = words(
    "raincoat|bow tie|kimono|tuxedo|cardigan|kilt|poncho|waistcoat|ball gown|straw hat|leather jacket|fur coat|beret"
    "|tracksuit|silk dress|denim skirt|turtleneck|sombrero|pair of sandals|sailor suit"
)
COSTUMES = words(
    "pirate|vampire|mermaid|cowboy|knight|witch|robot|nun|bumblebee|Roman soldier|ninja|fairy|scarecrow|mummy"
    "|skeleton|wizard|fisherman|sheriff|dinosaur|ghost"
)
GEMS = words(
    "ruby|sapphire|topaz|garnet|diamond|pearl|moonstone|tourmaline|turquoise|jade stone|zircon|citrine|tiger's eye"
    "|malachite|lapis lazuli|rose quartz"
)
SHADES = words(
    "mint green|navy blue|mustard yellow|charcoal grey|burgundy|lilac|cream|coral|bottle green|salmon pink|sky blue"
    "|chocolate|ivory|magenta|rust|lime|khaki|champagne|jet black|sand|peach|mauve"
)
STUFF = words(
    "limestone|velvet|aluminium|cardboard|oak|concrete|felt|porcelain|ebony|titanium|slate|linen|wax|cork|granite"
    "|straw|brass|denim|birch bark|carbon fibre|pewter|plywood"
)
PATTERNS = words(
    "stripes|polka dots|a dragon|palm trees|stars|zigzags|a lion's head|flames|hearts|a crown|checks|skulls|an anchor"
    "|butterflies|musical notes|a crescent moon|flamingos|a compass rose|snowflakes|cherries"
)
DEFECTS = words(
    "a crack|a flat battery|a loose screw|a missing handle|rust|a leak|a blown fuse|a bent frame|water damage"
    "|a dead pixel|a torn strap|a jammed lid|a broken hinge|a bad smell|a scratch|a short circuit|mould|a worn cable"
)

# The sky, the game and the calendar.
SEASONS = words(
    "spring|summer|autumn|winter|early spring|late spring|early summer|high summer|late summer|early autumn"
    "|late autumn|midwinter|the rainy season|the harvest season|the dry season|apple season"
)
FEASTS = words(
    "Christmas|Easter|Halloween|Thanksgiving|New Year's Eve|Diwali|Carnival|Hanukkah|Midsummer|Valentine's Day"
    "|Ramadan|Saint Patrick's Day|Mother's Day|Labour Day|Bastille Day|Holi|Chinese New Year"
)
ZODIAC = words("Aries Taurus Gemini Cancer Leo Virgo Libra Scorpio Sagittarius Capricorn Aquarius Pisces")
PLANETS = words(
    "Mercury Venus Mars Jupiter Saturn Uranus Neptune Pluto Titan Europa Ganymede Callisto Triton Io Ceres Phobos"
)
WEATHER = words(
    "heavy rain|thick fog|hail|light snow|a thunderstorm|a heatwave|drizzle|a blizzard|bright sunshine|black ice"
    "|a sandstorm|freezing rain|strong gusts|low clouds|a hurricane|morning frost|scattered showers|a cold spell"
)
