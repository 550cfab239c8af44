"""Words and codes that RULER's prompts are made of: common English words, made-up words, numbers and uuids."""

import random
import string
import uuid
from collections.abc import Callable, Collection
from typing import Literal

Kind = Literal["words", "numbers", "uuids"]

_ADJECTIVES = """
amber ancient angry bitter blunt bold brave brief bright brisk broad broken busy calm careful cheap cheerful chilly
civil clean clever cloudy clumsy common cosy crimson crisp cruel curious curly daily damp dark deep dense dirty
distant double dull dusty eager early easy elegant empty equal exact faint famous fancy fierce final firm fluffy
foolish fresh friendly frozen gentle giant glad golden grand grateful greedy grim handsome happy harsh hasty hidden
hollow honest huge humble hungry jolly keen kind lazy lively lonely loyal lucky massive mellow mighty modern modest
muddy narrow neat nervous nimble noble noisy orange patient perfect plain pleasant polite proud purple quick quiet
rapid rare ripe rough round royal rude rusty salty scarlet secret serious shallow sharp shiny silent silly simple
sleepy slender slim slow smooth sober solid sour spicy square steady steep stiff strange strict strong stubborn sturdy
subtle sudden sweet swift tall tame tasty tender thick thin thirsty tidy tiny tired tough upset urgent useful vague
vast violet vivid warm weak wealthy weary wicked wide wild wise witty wooden worthy yellow young zesty
"""
_NOUNS = """
acorn airport album anchor ankle apple artist atlas autumn avenue badge bakery balcony bamboo banana banjo barrel
basket battery beach beard beaver bedroom beetle bench berry bicycle biscuit blanket blossom bottle bowl bracelet
branch bread breeze brick bridge brother bucket buffalo butter button cabin cactus camera candle canoe canyon captain
caravan carpet carrot castle cattle cellar chair chalk cherry chess chicken chimney church cinema circle circus clock
cloth coast coconut coffee collar comet compass copper corner cottage cotton cousin cradle crayon cricket crown
crystal cupboard curtain cushion dancer daughter desert diamond dinner doctor dolphin donkey dragon drawer dream
driver eagle elbow elephant engine envelope evening fabric factory falcon farmer feather fence ferry festival fiddle
finger flag flame flute folder forest fork fountain frog garage garden garlic giraffe glacier glove goat grape guitar
hammer harbor harvest hawk hazel hedge helmet honey hotel hunter husband island jacket jaguar jelly jewel journey
jungle kettle kitchen kitten knee knife ladder lagoon lake lantern lawyer leather lemon leopard letter library lily
lizard lobster magnet mango maple marble market meadow melon mirror monkey morning motor mountain museum mushroom
music napkin needle nephew notebook oasis ocean olive onion orchard otter oven oyster palace panda parcel parrot
pasture peach peanut pebble pelican pencil penguin pepper piano picture pigeon pillow pilot planet plate plaza pocket
poem pond pony poppy potato prairie puddle pumpkin puppet puzzle pyramid quartz quilt rabbit radio raft railway raven
ribbon robin rocket rooster rope saddle sailor salad salmon sandal saucer school scissors sculptor shadow shelf shell
sheriff shoulder shovel shrimp singer sister sketch skirt sleeve snail soldier soup sparrow spider spoon squirrel
stable stadium statue stocking stomach stove student sugar summer swan sweater tailor teacher temple tent theater
thunder tiger timber toast tomato tongue torch tower tractor trumpet tulip tunnel turkey turtle uncle valley vanilla
velvet village violin volcano wagon walnut walrus whale wheat whistle widow willow window winter wizard wolf zebra
"""
ADJECTIVES, NOUNS = tuple(_ADJECTIVES.split()), tuple(_NOUNS.split())
ENGLISH = ADJECTIVES + NOUNS
"""No word of these is part of another, so that looking for one in an answer never finds another; none is short."""
CONSONANTS, VOWELS = "bdfgjklmnprstvz", "aeiou"
SYLLABLES = 3


def made_up_word(rng: random.Random) -> str:
    """Return three syllables of a consonant and a vowel, e.g. `dovaki`: for lists longer than `ENGLISH`."""
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(SYLLABLES))


def code(rng: random.Random, letters: str, size: int) -> str:
    """Return `size` random letters."""
    return "".join(rng.choices(letters, k=size))


DRAW: dict[Kind, Callable[[random.Random], str]] = {
    "words": lambda rng: f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}",
    "numbers": lambda rng: code(rng, "123456789", 1) + code(rng, string.digits, 6),
    "uuids": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
}
"""Keys and values of needles: an adjective and a noun, seven digits, or a uuid4."""


def distinct(count: int, draw: Callable[[], str], taken: Collection[str] = ()) -> list[str]:
    """Return that many different draws, none of them taken."""
    found: dict[str, None] = {}
    while len(found) < count:
        word = draw()
        if word not in taken:
            found[word] = None
    return list(found)
