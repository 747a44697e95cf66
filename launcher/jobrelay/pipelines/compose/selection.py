"""Which services are stages: programs that end. Servers are not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.model import Project, Service
from jobrelay.pipelines.compose.order import phase
from jobrelay.pipelines.compose.text.yamlfile import as_text

#: Images that are servers whatever the file says of them.
_SERVERS: Final = frozenset(
    """
    adminer airflow alertmanager cassandra chroma chromadb clickhouse clickhouse-server consul couchdb
    elasticsearch etcd flower grafana influxdb jaeger kafka kibana localstack loki mailhog mariadb memcached
    milvus minio mlflow mongo mongo-express mongodb mysql nats neo4j nginx opensearch pgadmin4 pgvector
    phpmyadmin postgis postgres postgresql prefect prometheus pushgateway qdrant rabbitmq redis redis-stack
    redpanda timescaledb traefik vault weaviate zookeeper
""".split()  # noqa: SIM905
)
#: More names than this make a hint unreadable.
_MANY: Final = 5
_ENDLESS: Final = re.compile(
    r"sleep (?:inf(?:inity)?|\d{6,})$|tail -[fF] |(?:(?:poetry|uv|pipenv) run )?(?:python3? -m )?(?:"
    r"tensorboard|uvicorn|gunicorn|hypercorn|jupyter(?:-?lab|-notebook| lab| notebook)|streamlit run|"
    r"torchserve|tritonserver|nginx|redis-server|mlflow (?:server|ui)|flask run|fastapi (?:run|dev)|"
    r"bentoml serve|airflow (?:webserver|scheduler|api-server)|http\.server|celery .*worker)(?: |$)"
)
_SHELLS: Final = frozenset(("bash", "/bin/bash", "sh", "/bin/sh", "zsh", "/bin/zsh"))


def choose(project: Project, named: Sequence[str]) -> list[Service]:
    """The services that are stages, in the order of the file; a note says what is left out and why.

    named: exactly these. Raises BadInput if nothing is left, or if a stage needs a server.
    """
    waited = _waited_for(project)
    reasons: dict[str, str] = {}
    for service in project.services.values():
        if named and service.name not in named:
            reasons[service.name] = "it is not named"
        elif not named and (reason := _reason(service, waited)):
            reasons[service.name] = reason
    stages = [service for name, service in project.services.items() if name not in reasons]
    if not project.services:
        profiles = sorted({as_text(name) for s in project.inactive.values() for name in s.items("profiles")})
        raise BadInput(
            f"{project.file}: every service is in a profile that is not chosen",
            f"choose one: COMPOSE_PROFILES={' or '.join(profiles)}",
        )
    if not stages:
        raise BadInput(
            f"{project.file}: no service is a stage: "
            + "; ".join(f"{name} {reason}" for name, reason in reasons.items()),
            _how_to_choose(project, list(project.services)),
        )
    if not named:
        _note_left_out(project, reasons, stages)
    for stage in stages:
        _check_needs(stage, project, reasons, {each.name for each in stages}, bool(named))
    return stages


def _note_left_out(project: Project, reasons: Mapping[str, str], stages: Sequence[Service]) -> None:
    for name, reason in reasons.items():
        project.notes.add(f"{name}: left out, {reason}")
    # A port may be a leftover, or a TensorBoard beside the training.
    perhaps = [name for name, reason in reasons.items() if phase(name) is not None and "ports" in reason]
    if perhaps:
        names = [name for name in project.services if name in perhaps or project.services[name] in stages]
        project.notes.add(f"if {' and '.join(perhaps)} ends, {_how_to_choose(project, names)}")


def dependencies(service: Service, project: Project) -> dict[str, Mapping[str, Any]]:
    """What a service waits for: `depends_on` and `links`. Raises BadInput for a name that does not exist."""
    found: dict[str, Mapping[str, Any]] = dict(service.table("depends_on"))
    for link in service.items("links"):
        found.setdefault(str(link).partition(":")[0], {"condition": "service_started"})
    for name, entry in list(found.items()):
        if name in project.services:
            continue
        if entry.get("required") in (False, "false"):
            del found[name]
        elif name in project.inactive:
            profiles = ", ".join(map(as_text, project.inactive[name].items("profiles")))
            raise service.refuse(
                "depends_on",
                f"{name} is in a profile that is not chosen",
                f"choose one: COMPOSE_PROFILES={profiles}",
            )
        else:
            raise service.refuse("depends_on", f"there is no service {name}")
    return found


def _waited_for(project: Project) -> set[str]:
    """Services whose completion another one waits for."""
    return {
        name
        for service in project.services.values()
        for name, entry in service.table("depends_on").items()
        if entry.get("condition") == "service_completed_successfully"
    }


def _reason(service: Service, waited: set[str]) -> str:
    """Why a service is not a stage; empty if it is one."""
    deploy = service.table("deploy")
    if service.get("scale") in (0, "0") or deploy.get("replicas") in (0, "0"):
        return "it has no replicas"
    if _is_server_image(service):
        return f"{service.get('image')} is a server"
    if service.name in waited:
        return ""
    restart = as_text(service.get("restart"))
    if restart in ("always", "unless-stopped"):
        return f"it never ends (restart: {restart})"
    if service.get("ports"):
        return "it never ends (it publishes ports, and nothing waits for its end)"
    if service.get("expose"):
        return "it never ends (it exposes ports, and nothing waits for its end)"
    command = [*_words(service.get("entrypoint")), *_words(service.get("command"))]
    text = " ".join(
        command[2:] if command[:1] and command[0] in _SHELLS and command[1:2] == ["-c"] else command
    )
    if _ENDLESS.match(text):
        return f"it never ends ({text[:60]})"
    if len(command) == 1 and command[0] in _SHELLS:
        return f"it is an interactive shell ({text})"
    return ""


def _is_server_image(service: Service) -> bool:
    image = as_text(service.get("image"))
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return not service.get("build") and name.lower() in _SERVERS


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [as_text(word) for word in value]
    try:
        return shlex.split(as_text(value))
    except ValueError:  # reported where the command is read
        return []


def _check_needs(
    stage: Service, project: Project, reasons: Mapping[str, str], stages: set[str], named: bool
) -> None:
    for name, entry in dependencies(stage, project).items():
        if name in stages:
            continue
        if named or entry.get("required") in (False, "false"):
            project.notes.add(f"{stage.name} depends on {name}, which is not run")
            continue
        raise stage.refuse(
            "depends_on",
            f"needs {name}, which cannot be a stage: {reasons[name]}",
            f"if {stage.name} works without it, "
            + _how_to_choose(project, sorted(stages, key=_order(project))),
        )


def _order(project: Project) -> Any:
    return list(project.services).index


def _how_to_choose(project: Project, names: Sequence[str]) -> str:
    words = shlex.join(names) if len(names) <= _MANY else "SERVICE…"
    return f"name the services that are stages: -f {project.file.name} {words}"
