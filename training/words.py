"""The words: names of media and moods, phrasings, and captions made from them by templates."""

import numpy as np

MEDIA: dict[str, tuple[str, ...]] = {
    "oil painting": ("an oil painting", "oil on canvas", "painted in oils", "a classical oil painting", "thick oil paint brush strokes", "old master painting", "an oil portrait with visible brush strokes", "oils", "a painterly oil picture", "oil colour painting", "an oil paint artwork", "traditional oil painting on canvas", "rembrandt"),
    "impasto (palette knife)": ("an impasto painting", "palette knife painting", "thick impasto", "painted with a palette knife", "heavy knife strokes of paint", "thickly layered paint", "knife painting", "raised paint texture", "chunky paint slabs", "thick paint relief", "spatula painting", "impasto"),
    "watercolor painting": ("a watercolor painting", "a watercolour", "watercolor", "aquarelle", "painted in watercolours", "water colour on paper", "a loose watercolor sketch", "wet on wet watercolor", "soft watercolor washes", "watercolour illustration", "transparent water colours", "an aquarelle on cold pressed paper", "winslow homer watercolor"),
    "gouache painting": ("a gouache painting", "gouache", "painted in gouache", "opaque watercolour", "matte gouache illustration", "flat opaque paint", "poster paint", "tempera painting", "body colour painting", "a gouache illustration", "gouache on paper", "matte paint"),
    "chalk pastel drawing": ("a chalk pastel drawing", "pastel drawing", "soft pastels", "pastel on toned paper", "drawn with pastels", "chalk pastels", "dry pastel painting", "a pastel by degas", "pastel crayon picture", "dusty pastel strokes", "pastel art", "soft pastel portrait"),
    "wax crayon drawing": ("a wax crayon drawing", "crayon drawing", "drawn with crayons", "children's crayon picture", "wax crayons", "a kid's drawing in crayon", "crayola drawing", "colourful crayon scribble", "crayon on paper", "waxy crayon strokes", "crayons", "a child's crayon sketch"),
    "pencil sketch": ("a pencil sketch", "pencil drawing", "graphite drawing", "a sketch in pencil", "drawn with a graphite pencil", "black and white pencil sketch", "hand drawn pencil shading", "lead pencil drawing", "a graphite portrait", "pencil art", "sketched by hand", "pencilled", "a detailed graphite sketch"),
    "coloured pencil drawing": ("a coloured pencil drawing", "colored pencil drawing", "color pencils", "drawn with coloured pencils", "crayon pencil colouring", "colour pencil sketch", "colored pencil art", "a drawing in colored pencils", "coloured pencils on paper", "pencil crayons", "hand coloured pencil picture", "prismacolor drawing"),
    "charcoal drawing": ("a charcoal drawing", "charcoal sketch", "drawn in charcoal", "charcoal on paper", "smudged charcoal", "a dark charcoal portrait", "burnt charcoal strokes", "charcoals", "vine charcoal drawing", "charcoal study", "expressive charcoal", "a sketch with charcoal sticks"),
    "ink wash painting (sumi-e)": ("an ink wash painting", "sumi-e", "sumi-e painting", "japanese ink painting", "chinese ink painting", "ink wash", "brush and ink", "zen ink brush painting", "shan shui", "black ink brush strokes on rice paper", "oriental ink painting", "suibokuga", "a sumi ink brush picture"),
    "pen and ink drawing with cross-hatching": ("a pen and ink drawing", "cross-hatching", "ink drawing with hatching", "drawn with a fountain pen", "black ink line drawing", "a hatched ink illustration", "pen drawing", "crosshatched pen sketch", "ink pen illustration", "fine liner drawing", "biro drawing", "hatching", "a line drawing in ink"),
    "copper engraving": ("a copper engraving", "engraving", "an etching", "old engraving", "copperplate print", "engraved like a banknote", "intaglio print", "a steel engraving", "durer engraving", "gustave dore engraving", "engraved illustration", "banknote portrait"),
    "woodcut (linocut)": ("a woodcut", "linocut", "linocut print", "woodcut print", "a lino print", "wood carving print", "block print in black", "relief print", "carved wood block print", "german expressionist woodcut", "linoleum cut", "black and white woodcut", "a wood engraving print"),
    "ukiyo-e woodblock print": ("a ukiyo-e woodblock print", "ukiyo-e", "japanese woodblock print", "hokusai", "in the style of hiroshige", "edo period print", "ukiyoe", "japanese print", "a hokusai print", "the great wave style", "traditional japanese art print", "floating world print", "a hiroshige landscape print"),
    "comic book": ("a comic book", "comic", "comic book panel", "a graphic novel", "american comic style", "superhero comic", "comic strip", "inked comic art", "marvel comic", "cartoon comic with halftone", "comics", "a page from a comic", "comic book illustration"),
    "anime (cel shading)": ("anime", "cel shading", "anime style", "a japanese animation", "cel shaded cartoon", "manga in colour", "studio ghibli", "an anime film frame", "japanese cartoon", "toon shading", "anime screenshot", "animated film look", "miyazaki"),
    "pop art with halftone dots": ("pop art", "pop art with halftone dots", "halftone dots", "roy lichtenstein", "andy warhol", "ben-day dots", "warhol screen print", "lichtenstein painting", "sixties pop art", "benday dots", "pop-art poster", "a silkscreen with dots", "halftone print"),
    "pointillist painting": ("a pointillist painting", "pointillism", "seurat", "painted with dots of colour", "tiny dots of paint", "divisionism", "paul signac", "in the style of seurat", "dotted painting", "points of pure colour", "neo-impressionist dots", "stippled painting"),
    "impressionist painting": ("an impressionist painting", "impressionism", "monet", "claude monet", "in the style of renoir", "impressionist", "water lilies painting", "dabs of light and colour", "french impressionism", "plein air painting", "a monet landscape", "pissarro"),
    "swirling post-impressionist painting (van Gogh)": ("van gogh", "a van gogh painting", "starry night", "in the style of vincent van gogh", "swirling brush strokes", "post-impressionist swirls", "the starry night by van gogh", "vincent van gogh", "swirly painting", "swirls of paint", "post-impressionism", "a swirling post-impressionist painting", "like vincent painted it"),
    "cubist painting": ("a cubist painting", "cubism", "picasso", "braque", "in the style of picasso", "juan gris", "broken into planes", "analytical cubism", "fragmented geometric planes", "cubist", "a cubist portrait", "faceted painting"),
    "expressionist painting": ("an expressionist painting", "expressionism", "edvard munch", "the scream", "kirchner", "in the style of munch", "german expressionism", "distorted emotional colours", "expressionist", "wild colours and bold outlines", "die brucke", "munch painting"),
    "mosaic of tiles": ("a mosaic", "mosaic of tiles", "roman mosaic", "byzantine mosaic", "tile mosaic", "made of small tiles", "ceramic tile mosaic", "tesserae", "glass tile mosaic", "a mosaic of coloured stones", "ancient mosaic floor", "mosaic artwork", "smalti mosaic"),
    "stained glass window": ("a stained glass window", "stained glass", "church window", "cathedral glass", "leaded glass", "a window of coloured glass", "gothic stained glass", "tiffany glass", "glass panes with lead lines", "stained-glass art", "coloured glass panes", "leadlight", "a cathedral window"),
    "pixel art": ("pixel art", "8-bit game", "retro video game graphics", "16 bit pixel art", "pixelated", "nintendo sprite", "an old computer game", "low resolution pixels", "8 bit style", "pixel graphics", "arcade game art", "pixels", "a retro game screenshot"),
    "low-poly render": ("a low-poly render", "low poly", "low polygon art", "triangles", "polygonal render", "faceted 3d triangles", "geometric low poly art", "triangulated picture", "flat shaded polygons", "polygon mesh art", "low-poly", "made of triangles"),
    "paper cut-out": ("a paper cut-out", "paper cut", "papercut art", "layered paper", "cut out of coloured paper", "paper collage", "kirigami", "construction paper cutouts", "layers of cut paper with shadows", "paper craft", "scherenschnitt", "matisse cut-outs"),
    "cross-stitch embroidery": ("cross-stitch embroidery", "cross stitch", "embroidery", "embroidered on linen", "needlework", "stitched with thread", "needlepoint", "a cross-stitch pattern", "sewn picture", "stitched canvas", "embroidered", "x-shaped stitches"),
    "chalkboard drawing": ("a chalkboard drawing", "chalk on a blackboard", "blackboard drawing", "white chalk drawing", "drawn in chalk on a school board", "chalkboard", "chalk sketch on slate", "chalk board art", "a blackboard sketch", "chalk lines on black", "school board chalk picture", "cafe chalkboard"),
    "blueprint": ("a blueprint", "blueprint", "technical drawing on blue paper", "architect's plan", "cyanotype drawing", "white lines on blue", "engineering drawing", "an architectural blueprint", "blue print plan", "construction plan", "technical blueprint", "schematic drawing", "a blue technical plan with a grid"),
    "neon (cyberpunk)": ("neon", "cyberpunk", "neon lights", "glowing neon lines", "neon sign", "cyberpunk neon", "synthwave glow", "glowing outlines in the dark", "blade runner", "neon tubes", "night city neon", "fluorescent glow", "tron style"),
    "faded vintage photograph": ("a faded vintage photograph", "vintage photo", "an old faded photo", "retro photograph", "seventies polaroid", "polaroid", "old film photo", "aged photograph", "faded colours of an old print", "lomo photo", "analogue film look", "nostalgic photograph", "kodachrome from the seventies"),
    "film noir": ("film noir", "a film noir movie still", "black and white detective film", "noir", "1940s black and white movie", "dramatic black and white cinema", "venetian blind shadows", "hard-boiled detective movie", "old black and white film", "moody black and white film still", "classic hollywood noir", "dark monochrome cinema", "noir thriller"),
    "art deco poster": ("an art deco poster", "art deco", "1920s poster", "travel poster of the twenties", "tamara de lempicka", "cassandre poster", "gatsby style", "geometric art deco design", "vintage travel poster", "airbrushed deco poster", "roaring twenties poster", "art déco"),
    "thermal camera image": ("a thermal camera image", "thermal image", "infrared camera", "heat map", "heat vision", "thermal imaging", "thermography", "predator vision", "infrared heat picture", "flir camera", "false colour infrared", "thermal vision", "seen by a heat camera"),
    "gold-leaf decorative painting (Klimt)": ("klimt", "gold leaf painting", "gustav klimt", "the kiss by klimt", "gold-leaf decorative painting", "golden ornaments", "golden spirals and mosaics", "vienna secession", "gilded painting", "golden phase klimt", "gold foil art", "byzantine gold ornament painting"),
}

MOODS = (
    "autumn colours", "winter", "spring blossom", "moonlit night", "golden-hour sunset", "vivid colours",
    "muted earth tones", "monochrome", "sepia", "ocean blues", "pink and teal (vaporwave)", "candlelight",
)

IDENTITY = ("keep it as it is", "the original photo", "leave it unchanged", "no change", "a photo", "the same photograph", "do nothing", "an unaltered photograph", "keep the original")

# what this version of the weights was trained on
TRAINED = (
    "oil painting", "watercolor painting", "pencil sketch", "charcoal drawing", "ink wash painting (sumi-e)",
    "pen and ink drawing with cross-hatching", "woodcut (linocut)", "ukiyo-e woodblock print", "comic book",
    "anime (cel shading)", "pop art with halftone dots", "swirling post-impressionist painting (van Gogh)",
    "mosaic of tiles", "stained glass window", "pixel art", "blueprint", "neon (cyberpunk)", "film noir",
    "faded vintage photograph", "thermal camera image",
)

# of these, what the model's pictures do not show yet: not offered as trained
NOT_LEARNT = ("pixel art",)

TEMPLATES = (
    "{}", "{}", "{}", "{}", "make it {}", "make it look like {}", "turn this into {}", "turn it into {}", "in the style of {}",
    "as {}", "{} style", "{}, highly detailed", "convert the video to {}", "a picture in {} style", "restyle as {}",
    "make this clip {}", "please make it {}", "change the style to {}", "the scene as {}", "render it as {}",
    "a beautiful {}", "{} of the scene", "{} artwork", "like {}", "looks like {}", "give it the look of {}", "{} effect",
)


def train_phrases(medium: str) -> tuple[str, ...]:
    """The name itself and four fifths of its phrasings; every fifth is kept to measure generalisation."""
    return (medium, *(p for i, p in enumerate(MEDIA[medium]) if i % 5 != 4))


def held_out_phrases(medium: str) -> tuple[str, ...]:
    return tuple(p for i, p in enumerate(MEDIA[medium]) if i % 5 == 4)


def caption(phrase: str, rng: np.random.Generator, typos: float = 0.08) -> str:
    text = TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(phrase)
    if rng.random() < typos and len(text) > 5:
        i = int(rng.integers(1, len(text) - 1))
        letter = "abcdefghijklmnopqrstuvwxyz"[int(rng.integers(26))]
        kind = rng.random()
        if kind < 0.33:
            text = text[:i] + text[i + 1 :]
        elif kind < 0.66:
            text = text[:i] + letter + text[i + 1 :]
        else:
            text = text[: i - 1] + text[i] + text[i - 1] + text[i + 1 :]
    if rng.random() < 0.15:
        text = text.capitalize()
    if rng.random() < 0.1:
        text += "."
    return text
