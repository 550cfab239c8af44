import pytest

from longrope.hyperparams import finetune_recipe
from longrope.training import Recipe, Stage, Window, load_recipe


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_values_at_the_top_hold_for_stages_without_their_own(tmp_path):
    recipe = load_recipe(
        write(
            tmp_path,
            "learning_rate: 2e-5\nbatch_size: 32\n"
            "stages: [{length: 64, steps: 4}, {length: 128, steps: 6, batch_size: 8}]",
        )
    )
    assert [(s.length, s.steps, s.batch_size, s.learning_rate) for s in recipe.stages] == [
        (64, 4, 32, 2e-5),
        (128, 6, 8, 2e-5),
    ]
    assert recipe.stages[0].windows == (Window(64),)
    assert recipe.stages[1].tokens == 6 * 8 * 128


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: []", "list of stages"),
        ("stages: [{length: 64, steps: 4, batch_size: 1}]", "learning_rate must be given"),
        ("stages: [{length: 64, stepss: 4, batch_size: 1, learning_rate: 1}]", "did you mean 'steps'"),
        ("stages: [{length: 64.5, steps: 4, batch_size: 1, learning_rate: 1}]", "length must be a whole number"),
        ("stages: [{length: 64, steps: 4, batch_size: 1, learning_rate: 0}]", "learning_rate must be a finite"),
        ("stages: [{length: 64, steps: 4, batch_size: 1, learning_rate: 1, schedule: wsd}]", "schedule must be one of"),
        (
            "stages: [{length: 64, steps: 4, batch_size: 1, learning_rate: 1, windows: [{length: 48}]}]",
            "must divide the length of its stage",
        ),
    ],
)
def test_wrong_recipes_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(write(tmp_path, text))


def test_the_recipe_of_longrope_is_the_papers():
    recipe = load_recipe(finetune_recipe("longrope-llama2"))  # section 3.3 and appendix A.2
    assert [(s.length, s.steps, s.batch_size, s.learning_rate, s.schedule) for s in recipe.stages] == [
        (131072, 400, 32, 2e-5, "linear"),
        (262144, 600, 32, 2e-5, "linear"),
    ]
    mistral = load_recipe(finetune_recipe("longrope-mistral")).stages[0]
    assert (mistral.length, mistral.steps, mistral.batch_size, mistral.learning_rate, mistral.schedule) == (
        16384, 400, 64, 1e-6, "constant",
    )  # fmt: skip


def test_a_smaller_recipe_keeps_its_proportions():
    stage = Stage(
        4096,
        100,
        8,
        1e-4,
        warmup_steps=20,
        windows=(Window(256, rope="original"), Window(1024), Window(4096, min_tokens=4096)),
    )
    small = Recipe((stage,)).changed(lengths=[64], steps=[3], batch_size=2).stages[0]
    assert (small.length, small.steps, small.batch_size, small.warmup_steps) == (64, 3, 2, 3)
    assert [(w.length, w.min_tokens) for w in small.windows] == [(64, 0), (16, 0), (64, 64)]
    with pytest.raises(ValueError, match="one for each of the 1 stages"):
        Recipe((stage,)).changed(steps=[1, 2])
