"""The analysis of tests/gpu/static."""

import collections
import pathlib
import re
import subprocess
import sys

import triton

TOOLS = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin"
HERE = pathlib.Path(__file__).parent

# Rates of one device: bytes/s of a copy (read and written), and warp instructions/s that its multiprocessors issue.
# H100: measured copy; H200: by its memory's rate. Four schedulers a multiprocessor, 132 of them.
DEVICES = {"H100": (3.00e12, 0.93e12), "H200": (4.30e12, 1.045e12)}
# Of one multiprocessor of sm_90.
REGISTERS, WARPS, BLOCKS = 65536, 64, 32

Loop = collections.namedtuple("Loop", "instructions loaded stored narrowest")
INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")


def width(opcode):
    """Bytes that a thread moves by a load or store."""
    for text, size in ((".128", 16), (".64", 8), (".U8", 1), (".S8", 1), (".U16", 2), (".S16", 2), (".16", 2), (".8", 1)):
        if text in opcode:
            return size
    return 4


def is_load(opcode):
    """Of memory of the device: also by a generic address, which is not known to be of shared memory."""
    return opcode.startswith(("LDG", "LD.E"))


def is_store(opcode):
    return opcode.startswith(("STG", "ST.E"))


def loops(code):
    """The innermost loops of a function: between the target of a backward branch and the branch."""
    found = []
    for address, _, opcode, operands in code:
        target = re.search(r"0x([0-9a-f]+)\s*$", operands)
        if opcode.startswith("BRA") and target and int(target[1], 16) < address:
            found.append((int(target[1], 16), address))
    inner = [l for l in found if not any(o != l and l[0] <= o[0] and o[1] <= l[1] for o in found)]
    result = []
    for begin, end in inner:
        body = [i for i in code if begin <= i[0] <= end]
        loads = [width(o) for _, _, o, _ in body if is_load(o)]
        stores = [width(o) for _, _, o, _ in body if is_store(o)]
        if loads or stores:
            result.append(Loop(len(body), sum(loads), sum(stores), min(loads + stores)))
    return result


def functions(objects):
    """Name -> (registers, spilled bytes, code) of all kernels for sm_90."""
    found = {}
    for path in objects:
        usage = subprocess.run([TOOLS / "cuobjdump", "-res-usage", path], capture_output=True, text=True, check=True).stdout
        registers = {m[1]: (int(m[2]), int(m[3])) for m in re.finditer(r"Function (\S+):\s+REG:(\d+) STACK:(\d+)", usage)}
        sass = subprocess.run([TOOLS / "cuobjdump", "-sass", path], capture_output=True, text=True, check=True).stdout
        name, code = None, []
        for line in sass.splitlines():
            if "Function :" in line:
                name, code = line.split("Function :")[1].strip(), []
                found[name] = (*registers.get(name, (0, 0)), code)
            elif name and (m := INSTRUCTION.match(line)):
                code.append((int(m[1], 16), m[2], m[3], m[4]))
    names = subprocess.run(["c++filt"], input="\n".join(found), capture_output=True, text=True, check=True).stdout.splitlines()
    return {readable: found[mangled] for mangled, readable in zip(found, names)}


def resident_warps(registers, threads):
    """Warps on a multiprocessor: registers are given out in units of 8 a thread."""
    of_block = -(-registers // 8) * 8 * threads
    return min(REGISTERS // of_block, BLOCKS, WARPS * 32 // threads) * threads // 32


def main():
    arguments = sys.argv[1:]
    build = pathlib.Path(arguments.pop(0) if arguments else "build/cuda")
    objects = sorted(build.glob("*/CMakeFiles/*/**/*.cu.o"))
    if not objects:
        sys.exit(f"static: no *.cu.o in {build}: cmake --preset cuda -DCMAKE_CUDA_ARCHITECTURES=90-real && cmake --build --preset cuda")
    kernels = functions(objects)
    failed = 0
    print(f"{'kernel':34s} {'regs':>4s} {'warps':>5s} {'spill':>5s} {'wide':>4s} {'ins/el':>6s} {'B/el':>5s}  "
          + "  ".join(f"{d:>5s}" for d in DEVICES))
    for row in (HERE / "static_bounds.tsv").read_text().splitlines():
        if not row or row.startswith("#"):
            continue
        name, pattern, moved, ideal, elements, threads, most_registers, narrowest, most_instructions = row.split("\t")
        if arguments and not any(a in name for a in arguments):
            continue
        matching = [k for k in kernels if re.search(pattern, k)]
        if len(matching) != 1:
            print(f"{name}: {len(matching)} kernels match {pattern}")
            for k in matching[:4]:
                print(f"    {k[:220]}")
            failed += 1
            continue
        registers, spilled, code = kernels[matching[0]]
        hottest = sorted(loops(code), key=lambda l: l.loaded + l.stored, reverse=True)
        if not hottest:  # a thread's work is the whole kernel
            loads = [width(o) for _, _, o, _ in code if is_load(o)]
            stores = [width(o) for _, _, o, _ in code if is_store(o)]
            hottest = [Loop(len(code), sum(loads), sum(stores), min(loads + stores))]
        passes = list(zip(hottest, map(float, elements.split("+"))))
        instructions = sum(loop.instructions / of_turn for loop, of_turn in passes)
        narrow = min(loop.narrowest for loop, _ in passes)
        shares = {}
        for device, (copy, issue) in DEVICES.items():
            by_memory, by_issue = float(moved) / copy, instructions / 32 / issue
            shares[device] = float(ideal) / copy / max(by_memory, by_issue)
        print(f"{name:34s} {registers:4d} {resident_warps(registers, int(threads)):5d} {spilled:5d} {narrow:4d} "
              f"{instructions:6.1f} {float(moved):5.1f}  " + "  ".join(f"{100 * s:4.0f}%" for s in shares.values()))
        for what, is_bad in ((f"{registers} registers, at most {most_registers}", registers > int(most_registers)),
                             (f"{spilled} bytes spilled", spilled > 0),
                             (f"accesses of {narrow} bytes, at least {narrowest}", narrow < int(narrowest)),
                             (f"{instructions:.1f} instructions an element, at most {most_instructions}",
                              instructions > float(most_instructions))):
            if is_bad:
                print(f"    FAILED: {what}")
                failed += 1
    print(f"{failed} failed" if failed else "all within their bounds")
    sys.exit(failed != 0)


main()
