"""Other words for the 80 object categories of COCO, in the singular; their plurals are derived.

Collective words ("couple", "crowd") are left out: "a couple of dogs" names no person.
"""

import re

_SYNONYMS = """
person: man, woman, boy, girl, child, kid, baby, toddler, infant, adult, lady, gentleman, guy, human,
    pedestrian, teenager, teen, player, rider, skier, snowboarder, surfer, skateboarder, skater, batter,
    pitcher, catcher, umpire, officer, policeman, policewoman, chef, passenger, cyclist, biker,
    motorcyclist, bicyclist, worker, student, teacher, waiter, waitress, swimmer, athlete, bride, groom,
    father, mother, son, daughter, brother, sister, soldier, tourist, fireman, firefighter, cowboy,
    spectator
bicycle: bike, cycle, unicycle, tricycle, mountain bike
car: automobile, sedan, van, minivan, suv, taxi, cab, jeep, hatchback, convertible, limousine, station
    wagon, police car
motorcycle: motorbike, motor bike, scooter, moped, dirt bike, motor cycle
airplane: plane, aeroplane, jet, aircraft, airliner, jetliner, biplane, seaplane, fighter jet, air plane
bus: minibus, school bus, double decker, double-decker, trolley bus, tour bus
train: locomotive, tram, trolley, streetcar, subway train, freight train, steam engine, bullet train
truck: pickup, pick-up, pick up truck, pickup truck, lorry, semi, firetruck, fire truck, fire engine, tow
    truck, dump truck, garbage truck, food truck
boat: ship, sailboat, canoe, kayak, yacht, ferry, rowboat, raft, vessel, motorboat, speedboat, dinghy,
    gondola, barge, tugboat, sail boat, row boat
traffic light: stoplight, stop light, traffic signal, street light signal, trafficlight
fire hydrant: hydrant, fire plug
stop sign: stopsign
parking meter: meter
bench: park bench, pew
bird: pigeon, seagull, gull, duck, goose, parrot, owl, eagle, hawk, sparrow, crow, swan, rooster, hen,
    peacock, pelican, flamingo, ostrich, penguin, robin, heron, parakeet, stork, finch, cardinal,
    hummingbird, toucan, cockatoo, falcon
cat: kitten, kitty, tabby, feline
dog: puppy, pup, poodle, dachshund, terrier, labrador, retriever, bulldog, pug, chihuahua, collie, sheepdog,
    dalmatian, shepherd dog, canine, doggie, doggy, beagle
horse: pony, foal, colt, mare, stallion
sheep: lamb, ewe, ram
cow: cattle, bull, calf, ox, heifer, steer
elephant:
bear: polar bear, grizzly, grizzly bear, brown bear, black bear, panda, panda bear
zebra:
giraffe:
backpack: rucksack, knapsack, back pack, book bag, bookbag
umbrella: parasol
handbag: purse, pocketbook, hand bag, tote bag
tie: necktie, bow tie, bowtie, neck tie
suitcase: luggage, briefcase, baggage, suit case
frisbee: frisbie, disc, flying disc
skis: ski
snowboard: snow board
sports ball: ball, baseball ball, soccer ball, tennis ball, football, basketball, volleyball
kite:
baseball bat: bat
baseball glove: mitt, baseball mitt, catcher mitt, glove
skateboard: skate board, longboard
surfboard: surf board, boogie board, paddle board, paddleboard, bodyboard
tennis racket: racket, racquet, tennis racquet
bottle: wine bottle, beer bottle, water bottle
wine glass: wineglass, goblet, glass of wine, glasses of wine
cup: mug, coffee cup, tea cup, teacup
fork:
knife: butter knife, steak knife
spoon: tablespoon, teaspoon
bowl:
banana: plantain
apple:
sandwich: burger, hamburger, cheeseburger, panini, sub sandwich, sub
orange: tangerine, mandarin, clementine
broccoli:
carrot:
hot dog: hotdog, corn dog, chili dog, frankfurter
pizza: pepperoni pizza, calzone
donut: doughnut, bagel
cake: cupcake, cheesecake, birthday cake, wedding cake, shortcake
chair: stool, armchair, recliner, rocking chair, seat, high chair, arm chair
couch: sofa, loveseat, love seat, futon, settee
potted plant: houseplant, house plant, pot plant, plant
bed: bunk bed, mattress, cot
dining table: table, kitchen table, picnic table, coffee table, desk
toilet: urinal, commode, lavatory
tv: television, television set, tv set, t.v., flat screen, flatscreen, monitor, tele
laptop: laptop computer, notebook computer, netbook, computer, macbook
mouse: computer mouse
remote: remote control, wii remote, controller, game controller, wii controller
keyboard: computer keyboard
cell phone: cellphone, mobile phone, phone, smartphone, smart phone, iphone, cellular phone
microwave: microwave oven
oven: stove, stove top, stovetop, stove top oven, range
toaster: toaster oven
sink: wash basin, washbasin, basin
refrigerator: fridge, freezer, refridgerator
book: novel, paperback, textbook
clock: clock tower, wall clock, alarm clock, wristwatch
vase: urn
scissors: scissor, shears
teddy bear: teddy, stuffed bear, plush bear
hair drier: hair dryer, hairdryer, blow dryer, blowdryer
toothbrush: tooth brush, electric toothbrush
"""

# Phrases that hold the name of an object and mean something else.
_OTHER_PHRASES = """
train track, train station, train platform, bus stop, bus station, boat dock, car park, toilet paper, toilet
brush, banana leaf, carrot cake, apple pie, orange juice, bird house, bird feeder, dog house, cat food, dog
food, table cloth, table top, bed room, pizza box, pizza cutter, pizza oven, pizza parlor, phone booth, bear
claw, cow boy, kite string, hot dog bun, seat belt, mountain range, ram truck, cd player, dvd player, record
player, video player
"""


def _listed(text: str) -> list[str]:
    """Phrases between commas; a line may end anywhere."""
    return [phrase for phrase in " ".join(text.split()).split(", ") if phrase]


COCO_SYNONYMS: dict[str, list[str]] = {
    name: _listed(words)
    for name, words in re.findall(r"^(\S[^:]*):(.*(?:\n +.*)*)$", _SYNONYMS, re.MULTILINE)
}
COCO_OTHER_PHRASES = _listed(_OTHER_PHRASES)
