"""The selected design as a question of its own, so that advice is about what is selected."""

from dataclasses import asdict, dataclass, fields, replace

from explorer.app.view import View, selection_of
from explorer.design import UpdatePolicy
from explorer.session import Session


@dataclass(frozen=True)
class DesignSession(Session):
    """A session whose policy is a design without a spec, until another policy replaces it."""

    design: UpdatePolicy | None = None

    @property
    def chosen_policy(self) -> UpdatePolicy:
        """The design, or the policy that replaced it."""
        return super().chosen_policy if self.design is None else self.design

    def with_policy(self, policy: str) -> Session:
        """Another policy; SpecError or UnknownNameError when it cannot be built here."""
        return Session.with_policy(replace(self, design=None), policy)


def asked_about(view: View) -> Session:
    """The session that asks about the selected design, under the setup it is shown with."""
    chosen = selection_of(view)
    if chosen.table is view.chosen:
        return view.session
    session, setup = chosen.session, chosen.setup
    if chosen.table is view.known:
        return replace(session, policy=chosen.label)
    given = {one.name: getattr(session, one.name) for one in fields(Session)}
    own = asdict(session.setup)
    other = {name: value for name, value in asdict(setup).items() if value != own[name]}
    other.pop("accumulation_steps", None)  # what the micro-batch leaves of the batch
    given |= other | {"batch": setup.effective_batch, "policy": "none", "choices": None}
    return DesignSession(**given, design=chosen.table.designs.policy(chosen.row))
