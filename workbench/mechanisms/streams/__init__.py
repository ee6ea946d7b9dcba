"""On which streams the transfers between the device and the host's page-locked memory run, and in which order.

Copies that share one stream share its queue, which has room for some 1,000: the next submission waits, and with it the
thread that drives the model. And the driver takes 4 to 70 us for each, by how long it was not used. `values` has the
ways to have more queues and a thread that hands copies on, `transfers` is what an engine uses, `device` what it stands
on; what keeps copies right with the compute, and lends them streams and events, is native: kernels/streams.
"""
