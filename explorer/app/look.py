"""From what the controls say to the next view.

The controls adapt on the way: precisions to the device, families and options
to the network. Raises ExplorerError and leaves the view alone when the
settings have no answer.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from explorer.accuracy.tasks import suits
from explorer.app.controls import Controls, split_policy
from explorer.app.state import Settings
from explorer.app.view import CHOICE, View, same_space
from explorer.errors import ExplorerError
from explorer.family import FamilyInfo
from explorer.question import SETUP_FIELDS, is_file
from explorer.search.sources import device_profile, model_graph, model_home
from explorer.session import ALWAYS_APPLICABLE, Session


def look(origin: Session, controls: Controls, view: View) -> tuple[View, str, str]:
    """The view of the controls' session, why a policy was replaced, what nobody chose."""
    old, settings = view.session, controls.read()
    bare = _session_of(origin, settings)
    known = view.known if replace(bare, policy=old.policy) == old else bare.compare()
    families = families_of(bare, settings.policy)
    controls.adapt_policies(families, settings.policy, known.labels)
    spec, note = controls.read().policy_spec, ""
    try:
        session = bare.with_policy(spec)
    except ExplorerError as error:
        if bare.model == old.model:
            raise
        substitute = _substitute(spec, known.labels)
        session = bare.with_policy(substitute)
        controls.adapt_policies(families, substitute, known.labels)
        note = f"{error}; showing {substitute}"
    is_same = same_space(session, old)
    if is_same:
        known = view.known
    elif known is view.known or not same_space(session, bare):
        known = session.compare()
    controls.show(session)
    stays = is_same or view.selected_id.startswith("known:")
    stays &= session.policy == old.policy
    changed = replace(
        view,
        selected_id=view.selected_id if stays else CHOICE,
        session=session,
        cost=session.cost(),
        chosen=session.chosen(),
        known=known,
    )
    return changed, note, _unchosen_words(session, old, settings)


def opened(origin: Session) -> Session:
    """What the page shows first: what a cell asked for, the rest as the network was published."""
    return replace(_session_of(origin, settings_of(origin)), policy=origin.policy)


def put(
    origin: Session, controls: Controls, settings: Settings, known_specs: Iterable[str] = ()
) -> None:
    """Make the controls say other settings, as after an undo."""
    bare = _session_of(origin, settings)
    controls.write(settings, bare)
    families = families_of(bare, settings.policy)
    controls.adapt_policies(families, settings.policy_spec, known_specs, fresh=True)


def changed_settings(settings: Settings, setting: str, session: Session) -> Settings:
    """The settings after a change that was advised: `norm=gn`, `micro_batch=1, policy=full`.

    `session` is what was advised: a change is one of its policy, a micro-batch one of its batch.
    """
    changes = _policy_settings(session.policy)
    for part in setting.split(", "):
        name, _, value = part.partition("=")
        if name == "policy":
            changes |= _policy_settings(value)
        elif name == "micro_batch":
            changes |= {"micro_batch": int(value), "batch": session.batch}
        else:
            changes[name] = value
    return replace(settings, **changes)


def _policy_settings(spec: str) -> dict[str, Any]:
    name, options = split_policy(spec)
    return {
        "policy": name,
        "options": tuple(f"{key}={option}" for key, option in options.items()),
    }


def settings_of(session: Session) -> Settings:
    """What to take for chosen of a session that a cell asked for.

    A device that is not the network's own, or else the usual one, was chosen.
    """
    own, (device, _) = session.own_setup, model_home(session.model)
    return Settings(
        model=session.model,
        device=None if session.device == (device or Session.device) else session.device,
        task=session.task,
        memory_objective=session.memory_objective,
        metric=session.metric,
        reserve_bytes=session.reserve_bytes,
        **_policy_settings(session.policy) | {field: own.get(field) for field in SETUP_FIELDS},
    )


def families_of(session: Session, policy: str) -> list[FamilyInfo]:
    """The families; a policy that comes from a file is a family of its own."""
    known = session.policies()
    if is_file(policy):
        summary = f"the policy in {policy}"
        known.append(FamilyInfo(name=policy, summary=summary, options={}, reason=""))
    return known


def _unchosen_words(session: Session, old: Session, settings: Settings) -> str:
    """What the network and the policy say of what nobody chose; empty where nothing."""
    words = []
    if settings.device is None and session.device != old.device:
        words.append(f"{session.graph.name} is shown on {session.device}, where it was published")
    if session.setup_note:
        name = PurePath(_family(session.policy)).name
        words.append(f"{name} is shown {session.setup_note}; another policy gives back yours")
    return "; ".join(words)


def _family(spec: str) -> str:
    return spec.partition(":")[0]


def _substitute(spec: str, known_specs: Iterable[str]) -> str:
    """A known policy of the same family, or one that applies to every network."""
    family = _family(spec)
    return next((s for s in known_specs if _family(s) == family), ALWAYS_APPLICABLE)


def _session_of(origin: Session, settings: Settings) -> Session:
    """The session a person's choices describe, with the policy left for later.

    What nobody chose is as the network was published. A task that the network cannot read, a
    metric that the task and a precision that the device does not have are not taken.
    """
    shape = model_graph(settings.model).input_shape
    home, update = model_home(settings.model)
    device = settings.device or home or Session.device
    has_precision = settings.precision in device_profile(device).kernels
    has_task = settings.task is not None and suits(settings.task, shape)
    own = {name: getattr(settings, name) for name in SETUP_FIELDS}
    asked = replace(
        origin,
        **own | {"precision": settings.precision if has_precision else None},
        model=settings.model,
        device=device,
        task=settings.task if has_task else None,
        memory_objective=settings.memory_objective,
        reserve_bytes=settings.reserve_bytes,
        policy="none",
        usual=update,
        choices=None,
        metric=None,
    )
    return asked.measured_by(settings.metric)
