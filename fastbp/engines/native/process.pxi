# What belongs to the process, whatever engines it has: the CPU that it runs on, and the threads that all modules share.


# ---- for the choice of module ------------------------------------------------------------------------


def cpu_offers(str instruction_set):
    """Whether this process can run the modules of this instruction set on this CPU."""
    return cpu_has(instruction_set.encode()) == CPU_OFFERS


def system_refuses(str instruction_set):
    """Whether this CPU could, but the operating system does not allow it."""
    return cpu_has(instruction_set.encode()) == SYSTEM_REFUSES


# ---- the threads that all modules share ----------------------------------------------------------------


def threads_address():
    """Where this module has room for them."""
    return <size_t> crew


def use_threads(size_t address):
    """Share those of another module, as it gives their address, before any engine is made."""
    global crew
    if crew != <Crew*> address:  # two threads may come to this, and one of them already use it
        crew = <Crew*> address


def end_threads():
    """Have no threads, until a call starts some anew."""
    with nogil:
        end_crew()
