"""Data sets in the form of their repositories, and a user's own folder of images."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from explorer import Session, catalog, paths
from explorer.accuracy import downloads
from explorer.accuracy.finetune import measure
from explorer.accuracy.tasks import _loaded, check_task, load_task, task_for
from explorer.accuracy.torch_bridge import build_module
from explorer.cli import run
from explorer.errors import MissingDataError, SpecError, UnknownNameError
from explorer.search.sources import kept_name

RED, BLUE = (200, 10, 10), (10, 10, 200)


def picture(colour=RED, size=(40, 30), mark=None) -> bytes:
    image = Image.new("RGB", size, colour)
    if mark:
        image.paste((255, 255, 255), mark)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Places files of a download in an otherwise empty cache."""
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.delenv(paths.DATA_VARIABLE, raising=False)
    (tmp_path / "tasks").mkdir()

    def place(name, *contents):
        for file, content in zip(downloads.remote(name).files, contents, strict=True):
            if isinstance(content, bytes):
                file.path.write_bytes(content)
            else:
                zipped(file.path, content)

    _loaded.cache_clear()
    yield place
    _loaded.cache_clear()


def folders(root, *classes, extra=()):
    members = {
        f"{root}/{name}/{i}.png": picture((40 * i, 0, 0)) for name in classes for i in (1, 2)
    }
    return {**members, **dict.fromkeys(extra, b"text")}


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("sign-digits", "r-1/Dataset"),
        ("trashnet", "r-1/dataset-resized"),
        ("caltech-101", "r-1/101_ObjectCategories"),
        ("apple-leaf", "r-1/PlantVillage/ImageDataset/img1"),
    ],
)
def test_class_folders_of_an_archive_are_the_classes(put, name, root):
    outside = folders("r-1/Examples", "z")
    left_out = folders(root, "BACKGROUND_Google") if name == "caltech-101" else {}
    notes = (f"{root}/a/readme.txt", f"{root}/notes.md", "r-1/README.md")
    put(name, {**folders(root, "b", "a", extra=notes), **outside, **left_out})
    task = load_task(name, 64)
    assert task.class_names == ("a", "b")
    assert task.input_shape == (3, 64, 64)
    assert task.labels.tolist() == [0, 0, 1, 1]
    assert task.pixels[:, 0, 32, 32].tolist() == [40, 80, 40, 80]


def annotation(*objects, size=(100, 80)):
    rows = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box in objects
    )
    width, height = size
    head = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{head}{rows}</annotation>"


def test_cells_are_cut_out_squarely(put):
    cell = (60, 20, 80, 40)
    objects = [("RBC", cell), ("WBC", (90, 70, 100, 80)), ("RBC", (5, 5, 5, 9))]
    put(
        "blood-cells",
        {
            "r-1/BCCD/Annotations/one.xml": annotation(*objects),
            "r-1/BCCD/Annotations/lost.xml": annotation(("RBC", cell)),
            "r-1/BCCD/JPEGImages/one.jpg": picture(BLUE, (100, 80), mark=cell),
        },
    )
    task = load_task("blood-cells", 64)
    assert task.class_names == ("RBC", "WBC")
    assert len(task.labels) == 2  # the empty box and the missing image give nothing
    cut = task.pixels[0]
    assert (cut[:, 32, 32] == 255).all()
    white = (cut[0] > 128).mean()
    # 20 of the 23 pixels across, and the centre crop keeps 64 of 74
    assert white == pytest.approx(min(1, (20 / 23 * 74 / 64)) ** 2, abs=0.05)
    assert (task.pixels[1, 2] > 150).all()  # moved inside the image, so no black border


def test_drawings_in_both_sets_count_once(put):
    def drawn(mark):
        image = Image.new("1", (105, 105), 1)
        image.paste(0, mark)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    left, right = drawn((0, 0, 50, 105)), drawn((55, 0, 105, 105))
    one = {"s1/Latin/character01/0001_01.png": left, "s1/Greek/character02/0002_01.png": right}
    two = {"s2/Latin/character01/0001_01.png": left, "s2/Latin/character01/0001_02.png": right}
    put("omniglot", one, two)
    task = load_task("omniglot", 84)
    assert task.class_names == ("Greek/character02", "Latin/character01")
    assert task.labels.tolist() == [0, 1, 1]
    assert task.pixels[:, 0, 42, 10].tolist() == [255, 0, 255]  # ink is black on white
    assert task.pixels[:, 0, 42, 70].tolist() == [0, 255, 0]


def test_quickdraw_rows_are_bitmaps(put):
    bitmaps = [np.full((2, 28, 28), value, np.uint8) for value in (0, 100, 255)]
    put("quickdraw", *(bitmap.tobytes() for bitmap in bitmaps))
    task = load_task("quickdraw")
    assert task.class_names == ("cats", "rainbows", "trains")
    assert task.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert task.pixels[::2, 0, 0, 0].tolist() == [255, 155, 0]


def test_drawings_fit_networks_of_one_or_three_channels(put):
    put("quickdraw", *(np.full((2, 28, 28), value, np.uint8).tobytes() for value in (0, 9, 255)))
    for channels in (1, 3):
        task = task_for("quickdraw", (channels, 8, 8))
        images = task.unit_images(np.arange(2))
        assert images.shape == (2, channels, 8, 8)
        assert (images == images[:, :1]).all()


def test_a_network_of_one_channel_reads_photographs_by_their_brightness(own):
    colour, grey = (task_for(str(own), (channels, 16, 16)) for channels in (3, 1))
    assert grey.input_shape == (1, 16, 16)
    assert grey.digest != colour.digest
    for image, plain in zip(colour.pixels, grey.pixels, strict=True):
        judged = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))
        assert np.abs(judged.astype(int) - plain[0]).max() <= 1
    with pytest.raises(SpecError, match=r"\(3, 8, 8\)"):
        task_for(str(own), (2, 8, 8))


def test_an_archive_without_images_is_said(put):
    put("trashnet", {"r-1/README.md": b"moved"})
    with pytest.raises(MissingDataError, match="trashnet: no image"):
        load_task("trashnet")


def test_the_converted_form_leads(put, tmp_path, monkeypatch):
    put("trashnet", folders("r-1/dataset-resized", "upstream", "other"))
    assert load_task("trashnet").class_names == ("other", "upstream")
    vision = tmp_path / "data" / "vision"
    vision.mkdir(parents=True)
    labels = "file,label,class\na/1.png,0,a\nb/1.png,1,b\n"
    files = {"labels.csv": labels, "a/1.png": picture(), "b/1.png": picture(BLUE)}
    zipped(vision / "trashnet_subset.zip", files)
    monkeypatch.setenv(paths.DATA_VARIABLE, str(tmp_path / "data"))
    _loaded.cache_clear()
    assert load_task("trashnet").class_names == ("a", "b")


@pytest.mark.parametrize("side", [84, 96, 128])
def test_photographs_are_resized_and_cropped_in_proportion(side, tmp_path):
    # a ramp as wide as 3:2, so its crop shows where it was cut
    ramp = np.broadcast_to(np.linspace(0, 255, 300).astype(np.uint8), (200, 300))
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.fromarray(np.dstack([ramp] * 3)).save(tmp_path / name / f"{index}.png")
    row = load_task(str(tmp_path), side).pixels[0, 0, side // 2].astype(float)
    short_side = {84: 96, 96: 110, 128: 147}[side]
    first = (1.5 * short_side - side) / 2 / (1.5 * short_side)
    assert row[0] == pytest.approx(255 * first, abs=3)
    assert row[-1] == pytest.approx(255 * (1 - first), abs=3)
    assert load_task(str(tmp_path), side).max_shift == {84: 6, 96: 7, 128: 9}[side]


@pytest.fixture
def own(tmp_path):
    """Two classes of eight photographs, beside what a folder also holds."""
    folder = tmp_path / "my photos"
    for name, colour in (("cat", RED), ("dog", BLUE)):
        (folder / name).mkdir(parents=True)
        for index in range(8):
            mark = (index, index, index + 9, index + 9)
            (folder / name / f"{index}.PNG").write_bytes(picture(colour, mark=mark))
    (folder / ".hidden").mkdir()
    (folder / "cat" / "notes.txt").write_text("a cat")
    _loaded.cache_clear()
    return folder


def test_a_folder_is_a_task(own):
    task = task_for(str(own), (3, 32, 32))
    assert task.class_names == ("cat", "dog")
    assert task.query_count == 3
    assert task.pixels.shape == (16, 3, 32, 32)
    graph = catalog.load("model", "mcunet-5fps").build(resolution="32")
    session = Session(model="mcunet-5fps:resolution=32", task=str(own), policy="last-k:k=1")
    measured = measure(
        graph,
        str(own),
        session.chosen_policy,
        episodes=1,
        tuning_episodes=1,
        module=build_module(graph),
    )
    assert measured.task == str(own)
    assert measured.data_digest == task.digest
    assert measured.protocol.query_count == 3


def test_a_session_on_a_folder_compares_and_has_its_own_files(own, monkeypatch):
    session = Session(model="digits-cnn", task=str(own), policy="none")
    assert len(session.compare())
    assert session.scores is None
    stem = kept_name("digits-cnn", str(own))
    monkeypatch.chdir(own.parent)
    assert stem == kept_name("digits-cnn", own.name + "/")
    assert stem.startswith("digits-cnn-my photos-")
    assert "/" not in stem
    assert kept_name("digits-cnn", "digits") == "digits-cnn-digits"


def test_a_folder_task_reaches_the_search(own, tmp_path, capsys):
    out = tmp_path / "front.json"
    arguments = ["search", "digits-cnn", "gap9", "--task", str(own), "--trials", "20"]
    assert run([*arguments, "--out", str(out)]) == 0
    assert json.loads(out.read_text())["task"] == str(own)
    assert run(["compare", "digits-cnn", "gap9", "--task", str(own / "cat")]) == 2
    assert "subfolders" in capsys.readouterr().err


def test_a_folder_that_is_no_task_is_one_sentence(own, tmp_path):
    def sentence(error, folder):
        with pytest.raises(error) as refused:
            Session(task=str(folder))
        assert "\n" not in str(refused.value)
        return str(refused.value)

    assert "no such folder" in sentence(MissingDataError, tmp_path / "nowhere")
    assert "subfolders" in sentence(SpecError, own / "cat")
    (own / "empty").mkdir()
    assert "my photos/empty: got 0" in sentence(SpecError, own)
    (own / "empty" / "1.png").write_bytes(picture())
    assert "my photos/empty: got 1" in sentence(SpecError, own)


@pytest.mark.parametrize("content", [b"", b"not an image", picture()[:60]])
def test_an_unreadable_image_is_named(own, content):
    (own / "dog" / "9.png").write_bytes(content)
    with pytest.raises(SpecError, match=r"dog/9\.png: cannot be read as an image"):
        load_task(str(own), 32)


def test_a_file_that_cannot_be_read_is_named(own, monkeypatch):
    (own / "dog" / "9.png").write_bytes(picture())

    def read(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", read)
    with pytest.raises(SpecError, match=r"(?i)\.png: cannot be read: Permission denied"):
        load_task(str(own), 32)


def test_only_files_are_photographs(own):
    before = load_task(str(own), 32)
    (own / "dog" / "9.png").mkdir()
    os.mkfifo(own / "dog" / "8.png")
    assert load_task(str(own), 32).digest == before.digest


def test_a_class_too_small_for_the_protocol_is_named(own):
    for index in range(4):
        (own / "dog" / f"{index}.PNG").unlink()
    graph = catalog.load("model", "mcunet-5fps").build(resolution="32")
    policy = Session(model="mcunet-5fps:resolution=32", policy="none").chosen_policy
    with pytest.raises(SpecError, match=r"class dog: got 6, allowed: 1 to 4"):
        measure(graph, str(own), policy, module=build_module(graph))


def test_a_photograph_turned_in_its_header_is_turned(tmp_path):
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(2):
            image.save(tmp_path / name / f"{index}.jpg", exif=exif, quality=95)
    pixels = load_task(str(tmp_path), 32).pixels[0]
    assert pixels[0, 16, 4] > 150 > pixels[0, 16, 28]


def test_names_and_folders_are_told_apart(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    check_task("digits")
    check_task("my photos")
    with pytest.raises(UnknownNameError, match="sign-digits"):
        check_task("sign-digit")
    (own.parent / "digits").mkdir()
    check_task("digits")  # an entry leads over a folder of its name
    with pytest.raises(SpecError, match="subfolders"):
        check_task("./digits")
    with pytest.raises(UnknownNameError):
        check_task("")
