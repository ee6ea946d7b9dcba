// Where blocks are: addresses that blocks of one size cover, one behind the other. So a block that overlaps others is
// seen, by a look at its neighbours.
#include "streams.h"

static bool has_its_place(const struct extent *extent, struct piece piece) {
    return extent->size == piece.bytes && (piece.address - extent->first) % piece.bytes == 0;
}

// Of the extents that begin behind an address the first one.
static size_t behind(const struct extents *extents, uint64_t address) {
    size_t least = 0, most = extents->count;
    while (least < most) {
        size_t middle = least + (most - least) / 2;
        if (extents->of[middle].first > address) most = middle;
        else least = middle + 1;
    }
    return least;
}

static void insert(struct extents *extents, size_t at, struct extent extent) {
    if (extents->count == extents->room) {
        extents->room = extents->room ? 2 * extents->room : 16;
        extents->of = grown(extents->of, extents->room * sizeof *extents->of);
    }
    memmove(extents->of + at + 1, extents->of + at, (extents->count++ - at) * sizeof *extents->of);
    extents->of[at] = extent;
}

static void drop(struct extents *extents, size_t at) {
    memmove(extents->of + at, extents->of + at + 1, (--extents->count - at) * sizeof *extents->of);
}

bool cover(struct extents *extents, struct piece piece) {
    if (!piece.bytes) return true;
    uint64_t end = piece.address + piece.bytes;
    size_t at = behind(extents, piece.address);
    struct extent *before = at ? &extents->of[at - 1] : NULL, *next = at < extents->count ? &extents->of[at] : NULL;
    if (before && before->end > piece.address) return has_its_place(before, piece);
    if (next && next->first < end) return false;
    bool joins_before = before && before->end == piece.address && before->size == piece.bytes;
    bool joins_next = next && next->first == end && next->size == piece.bytes;
    if (joins_before) {
        before->end = joins_next ? next->end : end;
        if (joins_next) drop(extents, at);
    } else if (joins_next) {
        next->first = piece.address;
    } else {
        insert(extents, at, (struct extent){piece.address, end, piece.bytes});
    }
    return true;
}
