"""Engine profiles from files: the shipped ones by name, any other by path."""

from importlib import resources
from pathlib import Path

import yaml
from pydantic import ValidationError

from dopd.api.profile import EngineProfileSpec

KIND = "EngineProfile"


def shipped() -> list[str]:
    """Names of the profiles that come with dopd."""
    folder = resources.files("dopd.perf").joinpath("profiles")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_profile(name_or_path: str) -> EngineProfileSpec:
    """Read an EngineProfile manifest.

    Raises:
        ValueError: there is no such profile, or the file is not one.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            words = "no such file" if isinstance(error, FileNotFoundError) else f"can not be read ({error})"
            raise ValueError(f"profile {name_or_path}: {words}") from error
    elif name_or_path in shipped():
        text = resources.files("dopd.perf").joinpath("profiles", f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        raise ValueError(f"profile {name_or_path}: expected a .yaml file or one of {', '.join(shipped())}")
    try:
        manifest = yaml.safe_load(text)
        kind = manifest.get("kind", KIND) if isinstance(manifest, dict) else KIND
        if kind != KIND:
            raise ValueError(f"profile {name_or_path}: kind {kind}; expected a manifest of kind {KIND}")
        return EngineProfileSpec.model_validate(manifest["spec"])
    except RecursionError as error:
        raise ValueError(f"profile {name_or_path}: nested too deep to be a manifest of kind {KIND}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"profile {name_or_path}: no YAML: {' '.join(str(error).split())}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"profile {name_or_path}: expected a manifest of kind {KIND} with a spec") from error
    except ValidationError as error:
        wrong = (f"spec.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ValueError(f"profile {name_or_path}: {'; '.join(wrong)}") from error
