"""On which streams the transfers between the device and the host's page-locked memory run, and in which order.

Copies that share one stream share its queue, which has room for some 1,000: the next submission waits, and with it the
thread that drives the model. `values` has the ways to have more queues, `ordering` keeps them right with the compute,
`transfers` is what an engine uses, `device` what all of it stands on.
"""
