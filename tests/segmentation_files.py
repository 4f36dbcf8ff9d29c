"""Small pictures with labels in the layouts of CamVid, PASCAL VOC and SBD, written by the tests
that read them.
"""

import numpy as np
from data_files import encode, pixels_of, write
from PIL import Image
from scipy.io import savemat

VOC_CLASSES = 21


def street(number, size=(12, 16)):
    """A label map (H, W) with sky above, road below, and a column of void."""
    labels = np.zeros(size, dtype=np.uint8)
    labels[size[0] // 2 + number % 3 - 1 :] = 3
    labels[:, -1] = 11
    return labels


def camvid_files(counts=(6, 3, 4), size=(12, 16)):
    """{relative name: content}: where the road is, pictures are bright."""
    files, number = {}, 0
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        for _ in range(count):
            labels = street(number, size)
            pixels = (
                pixels_of(*size, 3, seed=number) // 4 + 150 * (labels == 3)[..., None]
            ).astype(np.uint8)
            files[f"{split}/{number:03d}.png"] = encode(pixels)
            files[f"{split}annot/{number:03d}.png"] = encode(labels)
            number += 1
    return files


def make_voc(root, train=3, val=2, sbd=0):
    """VOCdevkit/VOC2012 with pictures of several sizes; `sbd` more in sbd/, beside two that VOC has
    as well.
    """
    base = "VOCdevkit/VOC2012"
    names = {
        "train": [f"2007_{i:06d}" for i in range(train)],
        "val": [f"2008_{i:06d}" for i in range(val)],
    }
    files = {
        f"{base}/ImageSets/Segmentation/{name}.txt": "\n".join(part).encode()
        for name, part in names.items()
    }
    files[f"{base}/ImageSets/Segmentation/trainval.txt"] = "\n".join(
        sum(names.values(), [])
    ).encode()
    for i, name in enumerate(sum(names.values(), [])):
        files[f"{base}/JPEGImages/{name}.jpg"] = encode(pixels_of(20 + i, 30, 3, seed=i), ".jpg")
        files[f"{base}/SegmentationClass/{name}.png"] = _indexed(voc_labels(i))
    write(root, files)
    if sbd:
        more = [names["val"][0], names["train"][0], *(f"2009_{i:06d}" for i in range(sbd))]
        lists = {"train": more[:2], "val": more[2:]}
        write(
            root / "sbd",
            {f"{name}.txt": "\n".join(part).encode() for name, part in lists.items()}
            | {f"img/{name}.jpg": encode(pixels_of(24, 18, 3, seed=9), ".jpg") for name in more},
        )
        (root / "sbd" / "cls").mkdir()
        for name in more:
            struct = np.zeros((1, 1), dtype=[("Segmentation", object)])
            struct[0, 0]["Segmentation"] = np.full((24, 18), 5, dtype=np.uint8)
            savemat(root / "sbd" / "cls" / f"{name}.mat", {"GTcls": struct})
    return names


def voc_labels(number):
    labels = np.zeros((20 + number, 30), dtype=np.uint8)
    labels[5:10, 5:20] = 15
    labels[4, 5:20] = 255
    return labels


def _indexed(labels):
    """A palette image, as VOC's are."""
    import io

    picture = Image.fromarray(labels, mode="P")
    picture.putpalette(sum(([i, 255 - i, i // 2] for i in range(256)), []))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
