"""Hostile forms of a valid document; `rng` is a `random.Random`, seeded or of hypothesis."""

import json
import math
import zipfile
from io import BytesIO

import numpy as np

TOKENS = [
    *(bytes([byte]) for byte in b'"{}[],:\n-?%.0\x00\xffRbt('),
    *(b"1e999", b"NaN", b"null", b"true", b"9" * 400, b"\\ud800", b"\xed\xa0\x80", b"\xff\xfe"),
    *(b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"- " * 3000, b"a." * 3000),
    *(b"!!python/object/apply:os.system ['true']", b"&a [*a, *a]", b"<<: *a", b"''"),
    *(b"= ", b"[[source]]\n", b"1979-05-27", b"0x7fffffffffffffff", b"inf"),
    *(b"cos\nsystem\n", b"cbuiltins\nexec\n", b"cnumpy\nndarray\n", b"c_codecs\nencode\n"),
    *(b"(S'true'\ntR.", b"r\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\0", b"\x93"),
    *(b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"2" * 99, b"cnumpy\ndtype\n"),
    *(b"../", b"/dev/zero", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"(99999999999,)", b"|O"),
]
WORDS = ["bn", "fp32", "conv2d", "input", "first", "out", "nan", "\x00", ".", "/dev/zero", "none"]
NUMBERS = [0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, 2**63, 10**30, -(10**20), 0.5, -0.0, 1e300]
NUMBERS += [math.nan, math.inf]


def piece(rng):
    """Bytes that some reader might stumble over."""
    kind = rng.randrange(3)
    if kind == 0:
        return rng.choice(TOKENS)
    if kind == 1:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(7)))
    return str(rng.choice(NUMBERS)).encode()


def noise(rng):
    """Bytes that are no document."""
    return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))


def damaged(rng, whole):
    """A valid document with up to four pieces put in, put over, left out or said twice."""
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[at:at] = piece(rng)
        elif kind == 1:
            new = piece(rng)
            data[at : at + len(new)] = new
        elif kind == 2:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 80)]
        elif kind == 4 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif rng.randrange(4) == 0:
            del data[at:]
    return bytes(data)


def reworded(rng, whole):
    """The same for lines and words of a text: one left out, said twice, moved or from elsewhere."""
    lines = whole.split(b"\n")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        kind = rng.randrange(4)
        if kind == 0 and len(lines) > 1:
            del lines[at]
        elif kind == 1:
            lines.insert(rng.randrange(len(lines)), lines[at])
        else:
            words = lines[at].split(b" ")
            others = lines[rng.randrange(len(lines))].split(b" ")
            new = piece(rng) if kind == 2 else rng.choice(others)
            words[rng.randrange(len(words))] = new
            lines[at] = b" ".join(words)
    return b"\n".join(lines)


def value(rng, depth=2):
    """Any JSON value."""
    kind = rng.randrange(8 if depth else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind in (1, 2, 3):
        return rng.choice(NUMBERS)
    if kind == 4:
        return rng.choice(WORDS)
    if kind == 5:
        return "".join(chr(rng.randrange(0x2FF)) for _ in range(rng.randrange(8)))
    inner = [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return inner if kind == 6 else {f"{rng.choice(WORDS)}": one for one in inner}


def revalued(rng, whole):
    """A valid JSON document, or lines of them, with up to three other values."""
    is_lines = b"}\n{" in whole
    document = [json.loads(line) for line in whole.splitlines()] if is_lines else json.loads(whole)
    for _ in range(rng.randint(1, 3)):
        at = document
        while isinstance(at, dict | list) and at:
            key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], dict | list) or rng.randrange(5) == 0:
                if rng.randrange(8) == 0 and at is not document:
                    del at[key]
                else:
                    at[key] = value(rng)
                break
            at = at[key]
    rows = document if is_lines else [document]
    return "\n".join(json.dumps(row) for row in rows).encode("utf-8", "surrogatepass")


def rezipped(rng, whole):
    """A valid zip with a member damaged, left out or called otherwise."""
    with zipfile.ZipFile(BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    kind = rng.randrange(5)
    if kind == 0:
        members[rng.choice(["target.npy", "fs_hz.npy", "../x.npy", "x"])] = members.pop(name)
    elif kind == 1:
        members[name] = members[rng.choice(list(members))]
    else:
        members[name] = damaged(rng, members[name])
    return _zipped(rng, members)


def _zipped(rng, members):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice([0, 8])) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return buffer.getvalue()


def remembered(rng, whole):
    """A score table that says other things of where it came from."""
    with zipfile.ZipFile(BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    start = len(members["meta.npy"]) - len(members["meta.npy"].partition(b"\n")[2])
    text = rng.choice([revalued, damaged, reworded])(rng, members["meta.npy"][start:])
    array = BytesIO()
    np.save(array, np.frombuffer(text, dtype=np.uint8))
    members["meta.npy"] = array.getvalue()
    return _zipped(rng, members)


def reheaded(rng, whole):
    """A safetensors file whose header says other things of the same bytes."""
    size = int.from_bytes(whole[:8], "little")
    head, body = whole[8 : 8 + size], whole[8 + size :]
    head = rng.choice([revalued, revalued, damaged, reworded])(rng, head)
    told = len(head) if rng.randrange(10) else rng.choice(SIZES) % (1 << 64)
    return told.to_bytes(8, "little") + head + body


SIZES = [0, 1, 2, 3, 5, 8, -1, -2, 255, 10**4, 10**6, 2**31 - 1, 2**62, -(2**63)]
TENSOR_KINDS = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 13, 14, 16, 17, 22, 99]


def regraphed(rng, whole):
    """A valid ONNX file with up to three other attributes, operators, names, sizes or values."""
    import onnx

    model = onnx.load_from_string(whole)
    graph = model.graph
    for _ in range(rng.randint(1, 3)):
        rng.choice(_CHANGES)(rng, graph)
    return model.SerializeToString()


def _attribute(rng, graph):
    from onnx import helper

    node = rng.choice(graph.node)
    if node.attribute and rng.randrange(3):
        one = rng.choice(node.attribute)
        if len(one.ints):
            one.ints[rng.randrange(len(one.ints))] = rng.choice(SIZES)
        elif one.HasField("i"):
            one.i = rng.choice(SIZES)
        elif one.HasField("f"):
            one.f = rng.choice([0.0, -1.0, 1e38, math.nan, math.inf])
        else:
            node.attribute.remove(one)
        return
    names = ["axis", "axes", "group", "pads", "strides", "dilations", "kernel_shape", "perm", "to"]
    names += ["alpha", "epsilon", "output_padding", "auto_pad", "keepdims", "num_groups", "value"]
    new = rng.choice(
        [rng.choice(SIZES), [rng.choice(SIZES) for _ in range(rng.randint(1, 4))], 0.5, b"\xff"]
    )
    node.attribute.append(helper.make_attribute(rng.choice(names), new))


def _operator(rng, graph):
    rng.choice(graph.node).op_type = rng.choice(_operators())


def _operators():
    from explorer.accuracy.tracing.onnx_file import KNOWN

    others = ["Loop", "If", "Scan", "Range", "Tile", "Pad", "Expand", "EyeLike", "RandomNormal"]
    others += ["RegexFullMatch", "ImageDecoder", "StringConcat", "MatMul", "OneHot", "Einsum", ""]
    return sorted(KNOWN) + others


def _wires(rng, graph):
    node, other = rng.choice(graph.node), rng.choice(graph.node)
    ends = [*node.input, *node.output, *other.input, *other.output, "", "nowhere"]
    place = rng.choice([node.input, node.output])
    if place and rng.randrange(3):
        place[rng.randrange(len(place))] = rng.choice(ends)
    elif place and rng.randrange(2):
        del place[rng.randrange(len(place))]
    else:
        place.append(rng.choice(ends))


def _nodes(rng, graph):
    at = rng.randrange(len(graph.node))
    if rng.randrange(2) and len(graph.node) > 1:
        del graph.node[at]
    else:
        graph.node.append(graph.node[at])
        graph.node[-1].output[:] = [f"{name}_again" for name in graph.node[at].output]


def _initializer(rng, graph):
    if not graph.initializer:
        return
    tensor = rng.choice(graph.initializer)
    kind = rng.randrange(6)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
    elif kind == 1:
        tensor.dims.append(rng.choice(SIZES))
    elif kind == 2:
        tensor.data_type = rng.choice(TENSOR_KINDS)
    elif kind == 3:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif kind == 4:
        tensor.raw_data = damaged(rng, tensor.raw_data)
    else:
        tensor.data_location = 1
        place = rng.choice(["../secret", "/etc/passwd", "/dev/zero", "document.onnx", ".", ""])
        tensor.external_data.add(key="location", value=place)
        tensor.external_data.add(key="length", value=str(rng.choice(SIZES)))


def _outside(rng, graph):
    whole = rng.choice([*graph.input, *graph.output])
    kind = rng.randrange(4)
    if kind == 0:
        whole.type.tensor_type.elem_type = rng.choice(TENSOR_KINDS)
    elif kind == 1:
        whole.name = rng.choice(["", "nowhere", *(one.name for one in graph.initializer)])
    else:
        sizes = whole.type.tensor_type.shape.dim
        if not sizes or rng.randrange(4) == 0:
            sizes.add().dim_value = rng.choice(SIZES)
        elif rng.randrange(5) == 0:
            rng.choice(sizes).dim_param = "n"
        else:
            rng.choice(sizes).dim_value = rng.choice(SIZES)


_CHANGES = [_attribute, _operator, _wires, _nodes, _initializer, _outside]
