"""Make a folder of your photos searchable by words: ten lines.

    python examples/search_photos.py FOLDER "a red bicycle" [BUNDLE]

The index lies beside the folder; a second run takes in only what changed. BUNDLE is `builtin`
(emoji, icons, clothes) unless named: for photographs of the world export a model first.
"""

import subprocess
import sys
from pathlib import Path

import twinlens

folder, words, bundle = Path(sys.argv[1]), sys.argv[2], (sys.argv[3:] or ["builtin"])[0]
index = folder.with_name(f"{folder.name}.index")
command = ["index", "build", str(folder), "-o", str(index), "--bundle", bundle]
subprocess.run([sys.executable, "-m", "twinlens.cli.main", *command], check=True)
encoder = twinlens.open_bundle(bundle)
hits = twinlens.open_collection(index).search(encoder.embed_texts([words]), k=5)[0]
for hit in hits:
    print(f"{hit.score:.3f}  {hit.id}")
