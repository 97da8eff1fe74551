"""Webhooks: projects tell other services what happens in them.

    an event's transaction ─► delivery ─► taken by a worker, with a lease ─► POST ─► noted
                                 ▲                                            │ no success
                                 └────────── due again, later each time ◄─────┘ until the last attempt

Each event is sent at least once. A worker that is killed leaves a delivery that is due again when its lease has ended.
No request waits for a delivery.
"""
