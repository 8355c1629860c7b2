"""Writes `docs/reference/*.md` from the code, so that they cannot disagree.

python scripts/reference.py            writes
python scripts/reference.py --check    tells which pages are not current; exit status 1 if any
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelry.core.errors import ModelryError, every_error
from modelry.core.recipes import RecipeCard, list_recipes
from modelry.core.settings import CLIENT_VARIABLES, Settings, load_settings

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
_NOTE = "<!-- Made by scripts/reference.py; change the code instead. -->\n"


def page(title: str, text: str, lines: Iterator[str]) -> str:
    """A whole page."""
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip()
    return f"# {title}\n\n{_NOTE}\n{text}\n\n{body}\n"


def row(*cells: object) -> str:
    """A line of a table."""
    return (
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    )


def head(*cells: str) -> Iterator[str]:
    """The first two lines of a table."""
    yield row(*cells)
    yield row(*("---" for _ in cells))


# Settings


def settings_page() -> str:
    text = (
        "Each setting is an environment variable; `modelry up --help` lists those that are options too. An "
        "unknown `MODELRY_…` variable or a malformed value refuses the start, with the name and what is expected."
    )
    return page("Settings", text, _settings())


def _settings() -> Iterator[str]:
    yield from head("Variable", "Default", "Meaning")
    for name, field in Settings.model_fields.items():
        yield row(f"`MODELRY_{name.upper()}`", _setting_default(name, field), field.description)
    yield ""
    yield "Read by clients (the CLI and the SDK), not by the service:"
    yield ""
    meanings = {
        "MODELRY_URL": "Where the service is. Without it: the service of the local home.",
        "MODELRY_KEY": "The key to show. Without it, on this machine: the home's admin key.",
        "MODELRY_PROJECT": "The project to work in. Without it: the key's own, or `default`.",
    }
    yield from head("Variable", "Meaning")
    for name in sorted(CLIENT_VARIABLES):
        yield row(f"`{name}`", meanings[name])


def _setting_default(name: str, field: Any) -> str:
    told = {"home": "`~/.modelry`", "job_threads": "the number of cores"}
    if name in told:
        return told[name]
    if field.default in (None, "", ()):
        return "–"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


# Errors


def errors_page() -> str:
    text = (
        'Every error has one shape: `{"error": {"code", "message", "remedy", "retryable"}}`. The code is stable; the '
        "SDK raises the class of the same meaning from `modelry.core.errors`. `:predict` answers in TensorFlow "
        'Serving\'s shape, `{"error": "message"}`, and names the code in the header `x-modelry-error`.'
    )
    return page("Errors", text, _errors())


def _errors() -> Iterator[str]:
    from modelry.server.api.errors import STATUS_OF_CODE

    yield from head("Code", "Class", "HTTP", "Again?", "What it says", "Remedy")
    order = sorted(every_error().values(), key=lambda error: (_path(error), error.code))
    for error in order:
        if error.__subclasses__() or error.code == "stale_epoch":
            continue
        again = "yes" if error.retryable else ""
        yield row(
            f"`{error.code}`",
            error.__name__,
            STATUS_OF_CODE[error.code],
            again,
            _template(error.sentence),
            _template(error.default_remedy),
        )


def _path(error: type[ModelryError]) -> tuple[str, ...]:
    return tuple(base.__name__ for base in reversed(error.__mro__[1:]))


def _template(text: str) -> str:
    return re.sub(r"\{(\w+)[^}]*\}", r"*\1*", text)


# Recipes


def recipes_page() -> str:
    text = (
        "What can be trained, and everything that can be set: `modelry train RECIPE --set name=value`, or "
        "`client.train(recipe, …, name=value)`. The same list from a running service: `modelry recipes NAME`."
    )
    return page("Recipes", text, (line for card in list_recipes() for line in _recipe(card)))


def _recipe(card: RecipeCard) -> Iterator[str]:
    yield f"## {card.name}"
    yield ""
    yield f"{card.summary} Task: {card.task}."
    yield ""
    yield from head("Parameter", "Default", "Values", "Meaning")
    for param in card.params:
        yield row(f"`{param.name}`", _value(param.default), param.expected, param.help)
    yield ""
    for name, values in card.presets.items():
        settings = ", ".join(f"{key}={_value(value)}" for key, value in values.items())
        yield f"Preset `{name}`: {settings or 'the defaults'}."
        yield ""
    for kind, values in card.defaults_for.items():
        settings = ", ".join(f"{key}={_value(value)}" for key, value in values.items())
        yield f"Defaults for data of the kind {kind}: {settings}."
        yield ""
    yield ""


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()


# Command line


def cli_page() -> str:
    return page(
        "Command line", "`modelry COMMAND --help` says the same in the terminal.", _commands()
    )


def _commands() -> Iterator[str]:
    from typer.main import get_command

    from modelry.cli.main import app

    root = get_command(app)
    yield "```text"
    yield from _options(root)
    yield "```"
    yield ""
    yield from _walk(("modelry",), root)


def _walk(path: tuple[str, ...], command: Any) -> Iterator[str]:
    for name, child in getattr(command, "commands", {}).items():
        here = (*path, name)
        if getattr(child, "commands", None):
            yield from _walk(here, child)
            continue
        yield f"## {' '.join(here)}"
        yield ""
        prose, _, examples = child.help.replace("\b", "").partition("Example")
        yield _unwrapped(prose)
        yield ""
        yield "```text"
        yield from (line[2:] for line in examples.splitlines()[1:] if line.strip())
        yield "```"
        yield ""
        lines = list(_options(child))
        if lines:
            yield "```text"
            yield from lines
            yield "```"
            yield ""


def _unwrapped(prose: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in prose.split("\n\n")).strip()


def _options(command: Any) -> Iterator[str]:
    shown = [param for param in command.params if param.name != "help" and param.help]
    names = {param.name: _param(param) for param in shown}
    width = max((len(name) for name in names.values()), default=0)
    for param in shown:
        required = " (required)" if param.required else ""
        yield f"{names[param.name]:<{width}}  {param.help}{required}"


def _param(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.metavar or param.name).upper()
    words = ", ".join([*param.opts, *param.secondary_opts])
    return words if param.is_flag else f"{words} {param.name.upper()}"


# HTTP


def http_page() -> str:
    text = (
        "Every call but `/health` needs a key: `Authorization: Bearer mk_…` or `x-api-key: mk_…`. An instance key "
        "names its project in `x-modelry-project` (percent-encoded; `default` if left out). Unknown fields are "
        "refused. `x-request-id` comes back with every answer; send your own to find it in the logs. A running "
        "service tells the same at `/docs`, and as OpenAPI at `/openapi.json`."
    )
    return page("HTTP", text, _calls())


def _calls() -> Iterator[str]:
    from modelry.server.api.app import scope_of
    from modelry.server.api.openapi import document, template_of

    app = _app()
    schema = document(app)
    scopes = {
        (method.lower(), template_of(route.path)): scope_of(route)
        for route in app.routes
        for method in getattr(route, "methods", None) or ()
    }
    parts = schema["components"]["schemas"]
    listed = [
        (call["tags"][0], method, path, call)
        for path, calls in schema["paths"].items()
        for method, call in calls.items()
    ]
    tags = {tag for tag, *_ in listed}
    for tag in ("Predictions", *sorted(tags - {"Predictions", "Management"}), "Management"):
        yield f"## {tag}"
        yield ""
        for found, method, path, call in listed:
            if found == tag:
                yield from _call(method, path, call, scopes.get((method, path)), parts)


def _call(
    method: str, path: str, call: dict[str, Any], scope: str | None, parts: dict[str, Any]
) -> Iterator[str]:
    from modelry.server.api.reference import alternatives

    yield f"### {method.upper()} {path}"
    yield ""
    yield f"{call.get('description', '')} Scope: {f'`{scope}`' if scope else 'none, no key needed'}."
    yield ""
    for parameter in call.get("parameters", ()):
        if parameter["in"] == "query":
            yield f"- `?{parameter['name']}`: {parameter.get('description', '')}".rstrip(": ")
    for media, content in call.get("requestBody", {}).get("content", {}).items():
        if media != "application/json":
            yield f"- or a body of `{media}`"
        for fields in alternatives(content["schema"], parts):
            yield from _fields(fields)
    yield ""


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    for field, facts in schema["properties"].items():
        mark = " (required)" if field in required else ""
        meaning = facts.get("description") or (f"`{facts['const']}`" if "const" in facts else "")
        yield f"- `{field}`{mark}: {meaning}".rstrip(": ")


def _app() -> Any:
    from modelry.artifacts import Artifacts
    from modelry.core.records import Snapshot
    from modelry.server.api.app import create_app
    from modelry.server.gateway import Gateway
    from modelry.server.store import Store

    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home=home)
        settings.places.secret.write_bytes(bytes(32))
        gateway = Gateway(lambda: Snapshot(number=0, routes={}, keys={}), b"", settings)
        store = Store(settings.database_address)
        app = create_app(settings, store, Artifacts(settings.artifacts_address), gateway)
        store.close()
        return app


def pages() -> dict[Path, str]:
    """Every page and what it should hold."""
    return {
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "errors.md": errors_page(),
        REFERENCE / "recipes.md": recipes_page(),
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "http.md": http_page(),
    }


def main() -> int:
    current = pages()
    if "--check" in sys.argv[1:]:
        stale = [
            path for path, text in current.items() if not path.exists() or path.read_text() != text
        ]
        for path in stale:
            print(f"not current: {path.name}; run python scripts/reference.py")
        return 1 if stale else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for path, text in current.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
