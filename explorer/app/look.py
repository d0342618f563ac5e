"""From what the controls say to the next view.

The controls adapt on the way: precisions to the device, families and options
to the network. Raises ExplorerError and leaves the view alone when the
settings have no answer.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePath

from explorer import catalog
from explorer.app.controls import Controls
from explorer.app.state import Settings
from explorer.app.view import CHOICE, View, same_space
from explorer.errors import ExplorerError
from explorer.family import FamilyInfo
from explorer.question import is_file
from explorer.session import ALWAYS_APPLICABLE, Session


def look(origin: Session, controls: Controls, view: View) -> tuple[View, str, str]:
    """The view of the controls' session, why a policy was replaced, what setup one brought."""
    old = view.session
    controls.adapt_device(controls.read().device)
    settings = controls.read()
    bare = _session_of(origin, settings)
    is_same = same_space(bare, old)
    known = view.known if is_same else bare.compare()
    families = families_of(bare)
    controls.adapt_policies(families, settings.policy, known.labels)
    spec, note, brought = controls.read().policy_spec, "", ""
    try:
        session = _with_policy(bare, spec, old.policy)
    except ExplorerError as error:
        if bare.model == old.model:
            raise
        substitute = _substitute(spec, known.labels)
        session = bare.with_policy(substitute)
        controls.adapt_policies(families, substitute, known.labels)
        note = f"{error}; showing {substitute}"
    if not same_space(session, bare):
        is_same = same_space(session, old)
        known = view.known if is_same else session.compare()
        controls.show_setup(session)
        brought = _brought_words(bare, session)
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
    return changed, note, brought


def put(origin: Session, controls: Controls, settings: Settings) -> None:
    """Make the controls say other settings, as after an undo."""
    controls.write(settings)
    bare = _session_of(origin, settings)
    controls.adapt_policies(families_of(bare), settings.policy_spec, fresh=True)


def changed_settings(settings: Settings, setting: str) -> Settings:
    """The settings after a change that was advised: `norm=gn`, `micro_batch=1, policy=full`."""
    changes: dict[str, object] = {}
    for part in setting.split(", "):
        name, _, value = part.partition("=")
        if name == "policy":
            family, options = catalog.split_spec(value)
            changes["policy"] = family
            changes["options"] = tuple(f"{key}={option}" for key, option in options.items())
        else:
            changes[name] = int(value) if name == "micro_batch" else value
    return replace(settings, **changes)  # type: ignore[arg-type]


def families_of(session: Session) -> list[FamilyInfo]:
    """The families; a policy that comes from a file is a family of its own."""
    known = session.policies()
    if session.policy.endswith(".json"):
        summary = f"the policy in {session.policy}"
        known.append(FamilyInfo(name=session.policy, summary=summary, options={}, reason=""))
    return known


def _brought_words(bare: Session, session: Session) -> str:
    """`biotrain-edge brings batch=8, norm=bn along; ...`."""
    names = ("batch", "micro_batch", "norm", "optimizer", "update_timing")
    values = {name: (getattr(bare, name), getattr(session, name)) for name in names}
    changes = [
        f"{name}={'default' if new is None else new}"
        for name, (old, new) in values.items()
        if old != new
    ]
    return (
        f"{PurePath(_family(session.policy)).name} brings {', '.join(changes)} along, which stays "
        "for other policies and networks; Undo takes it back"
    )


def _with_policy(bare: Session, spec: str, before: str) -> Session:
    """The policy; a document always brings its setup along, a family when it is chosen."""
    session = bare.with_policy(spec)
    if is_file(spec) or _family(spec) != _family(before):
        return session
    return replace(bare, policy=session.policy)


def _family(spec: str) -> str:
    return spec.partition(":")[0]


def _substitute(spec: str, known_specs: Iterable[str]) -> str:
    """A known policy of the same family, or one that applies to every network."""
    family = _family(spec)
    return next((s for s in known_specs if _family(s) == family), ALWAYS_APPLICABLE)


def _session_of(origin: Session, settings: Settings) -> Session:
    """The session the controls describe, with the policy left for later."""
    return replace(
        origin,
        model=settings.model,
        device=settings.device,
        task=settings.task,
        batch=settings.batch,
        micro_batch=settings.micro_batch,
        norm=settings.norm,
        optimizer=settings.optimizer,
        update_timing=settings.update_timing,
        recompute=settings.recompute,
        precision=settings.precision,
        memory_objective=settings.memory_objective,
        reserve_bytes=settings.reserve_bytes,
    )
