"""Common words for things in images: queries for tuning if the collection has no texts.

Taken from the language, not from any data set; the list covers many subjects.
"""

from __future__ import annotations

_BANK = """
apple banana bread cake cheese chocolate coffee cookie egg fish fruit grape honey ice lemon meat
milk mushroom noodles onion orange pasta pepper pizza potato rice salad sandwich soup steak
strawberry sushi tea tomato vegetable wine bottle bowl cup fork glass knife pan plate spoon table
ant bear bee bird butterfly cat chicken cow crab crocodile deer dog dolphin dragonfly duck eagle
elephant fox frog giraffe goat hamster horse insect kangaroo lion lizard monkey mouse octopus owl
panda parrot penguin pig pigeon rabbit rat shark sheep snail snake spider squirrel swan tiger
turtle whale wolf zebra beach bridge bush canyon cave cliff cloud coast desert field flower forest
garden glacier grass hill island lake leaf lightning moon mountain ocean palm park path planet
rain rainbow river road rock sand sea sky snow star storm stream sun sunset tree valley volcano
waterfall wave airport bank barn bar bathroom bedroom building cafe castle cathedral church city
classroom door factory farm fence fountain hospital hotel house kitchen library lighthouse market
monument mosque museum office palace restaurant roof room school shop skyscraper stadium station
street temple theatre tower tunnel village wall window airplane ambulance bicycle boat bus car
ferry helicopter motorcycle rocket sailboat scooter ship skateboard submarine taxi tractor train
tram truck van wheel bag ball balloon basket bed belt bench blanket book boots box brush bucket
button camera candle chair clock coat coin comb computer couch crown curtain cushion desk doll
drawer dress drum earring envelope fan flag flute gift gloves guitar hammer hat headphones helmet
jacket jeans jewel kettle key keyboard kite ladder lamp laptop letter lock map mask mirror
necklace needle newspaper oven painting paper pen pencil phone piano picture pillow poster purse
radio refrigerator ring rope ruler sandals scarf scissors screw shirt shoe shovel shelf skirt
sneakers socks stamp statue suit suitcase sunglasses sweater sword telescope television tent tie
toaster toilet toothbrush towel toy trousers trumpet umbrella vase violin wallet watch zipper
actor artist athlete baby bride boy child chef clown cook couple crowd dancer doctor driver farmer
firefighter fisherman friend girl king man mother musician nurse people player police queen sailor
singer soldier student teacher team tourist woman worker arrow circle cross diamond heart line
number pattern sign spiral square stripe symbol text triangle black blue brown gold green grey
pink purple red silver white yellow big bright broken clean cold colourful dark dirty dry empty
fast flat fresh funny happy heavy high hot long loud modern narrow new old open quiet round sad
sharp short slow small smooth soft strong tall thick tiny warm wet wide wild wooden young climbing
cooking crying dancing diving drinking driving eating falling fishing flying jumping laughing
playing reading riding running sailing singing sitting skating skiing sleeping smiling standing
surfing swimming talking throwing walking washing working writing birthday christmas concert
dinner festival football game halloween holiday meeting night parade party race sport summer
tennis wedding winter anatomy battery calendar chart crystal diagram document electricity fire
graph internet logo magnet medicine microscope money music robot science security shopping smoke
space steam sugar tools traffic virus war weather wind
"""

WORDS = tuple(_BANK.split())
