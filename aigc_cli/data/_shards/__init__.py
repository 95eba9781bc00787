"""Data in shards: tar files of a chosen size that hold the files of a source, unchanged and in its
order, as WebDataset and `tar` read them, beside an index by which every file is found at once.

| file          | what it is                                                                    |
|---------------|-------------------------------------------------------------------------------|
| `00000.tar`   | a shard: files one after the other (POSIX pax), without compression           |
| `index.json`  | what is in it, the shards with size and SHA-256, and the digest of the table  |
| `index.arrow` | the table, Arrow IPC: name, start, size and BLAKE2b-128 of each file, and what a |
|               | modality knows of it, such as height and width                                |

A shard is never read whole: file number n is `size` bytes from `start` of its shard, wherever that
lies, and counts only when its digest fits. So any order costs the same, and the order of training
stays what it is for a folder: a function of seed and position.
"""

from aigc_cli.data._shards._index import INDEX, Index
from aigc_cli.data._shards._read import Shards, StoredFile
from aigc_cli.data._shards._write import Item, ShardWriter

__all__ = ["INDEX", "Index", "Item", "ShardWriter", "Shards", "StoredFile"]
