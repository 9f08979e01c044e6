import pytest

from cmcr.connect import ConnectConfig
from cmcr.errors import InputError


def test_defaults_are_the_papers():
    config = ConnectConfig()
    assert (config.tau, config.tau_memory, config.noise, config.intra_weight) == (0.01, 0.01, 0.004, 0.1)
    assert (config.lr, config.epochs, config.method, config.projector) == (1e-3, 36, "c-mcr", "mlp")


def test_toml_sets_every_field_and_lambda(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('method = "route"\nroute-tau = 0.1\nlambda = 10\nepochs = 3\ncenter = false\n')
    config = ConnectConfig.from_toml(recipe)
    assert (config.method, config.route_tau, config.intra_weight, config.epochs, config.center) == (
        "route",
        0.1,
        10,
        3,
        False,
    )


def test_a_whole_number_may_be_written_as_a_fraction():
    assert [type(value) for value in (ConnectConfig(epochs=3.0).epochs, ConnectConfig(seed=1.0).seed)] == [int, int]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown setting 'epoch'; did you mean 'epochs'?"),
        ("epochs = 0", "epochs 0; expected a number above 0"),
        ("epochs = 1.5", "expected a whole number"),
        ("tau = -1", "expected a finite number of 0 or more"),
        ("tau = nan", "expected a finite number"),
        ("lr = 'fast'", "expected a number"),
        ("center = 1", "expected true or false"),
        ("method = 'c-mrc'", "did you mean 'c-mcr'"),
        ("pairing = 'topk:0'", "expected full, none or topk:K"),
        ("pairing = 'topk:x'", "expected full, none or topk:K"),
        ("val_fraction = 1", "expected a number below 1"),
        ("epochs = inf", "expected a finite number"),
        ("epochs = nan", "expected a finite number"),
        ("epochs = 10000000", "epochs 10000000; expected at most 1000000"),
        ("dim = 1000000000", "expected at most 65536"),
        ("seed = 99999999999999", "expected at most"),
        (f"pairing = 'topk:{'9' * 5000}'", "expected full, none or topk:K"),
        (f"tau = {'[' * 3000}", "not a TOML file"),
        (f"epochs = {'9' * 5000}", "not a TOML file"),
        ("epochs = ", "not a TOML file"),
    ],
)
def test_bad_recipes_are_named(tmp_path, text, message):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    with pytest.raises(InputError, match=r"recipe\.toml") as error:
        ConnectConfig.from_toml(recipe)
    assert message in str(error.value)


def test_missing_recipe_is_named(tmp_path):
    with pytest.raises(InputError, match="expected a TOML recipe"):
        ConnectConfig.from_toml(tmp_path / "none.toml")


def test_top_k_of_pairing():
    assert ConnectConfig(pairing="topk:32").top_k == 32
    assert ConnectConfig().top_k == 0
