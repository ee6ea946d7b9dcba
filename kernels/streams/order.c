// Work that touches the same blocks runs in the order in which it was submitted: who reads a block waits for its
// writer; who writes it, for its writer and all its readers.
#include "streams.h"

struct block {
    struct piece piece;        // at 0: nothing is here
    struct reference writer;   // the last one
    struct references readers; // since then
    uint64_t asked;            // for, by the how manieth `before`
};

void refer(struct references *all, struct reference one) {
    if (all->count == all->room) {
        all->room = all->room ? 2 * all->room : 2;
        all->of = grown(all->of, all->room * sizeof *all->of);
    }
    all->of[all->count++] = one;
}

static struct block *place_of(const struct blocks *blocks, uint64_t address) {
    uint64_t at = address * 0x9e3779b97f4a7c15ull >> 20, last = blocks->room - 1;
    while (blocks->of[at & last].piece.address && blocks->of[at & last].piece.address != address) at++;
    return &blocks->of[at & last];
}

static bool is_at_rest(const struct blocks *blocks, const struct block *block) {
    for (size_t i = 0; i < block->readers.count; i++)
        if (!is_over(block->readers.of[i])) return false;
    return is_over(block->writer) && block->asked != blocks->asked;
}

static int by_address(const void *left, const void *right) {
    uint64_t a = ((const struct block *)left)->piece.address, b = ((const struct block *)right)->piece.address;
    return (a > b) - (a < b);
}

// The first so many blocks, which are all that there are: has only their memory be covered.
static void cover_again(struct blocks *blocks, size_t count) {
    if (count == blocks->count) return;
    blocks->extents.count = 0;
    if (count) qsort(blocks->of, count, sizeof *blocks->of, by_address);
    for (size_t i = 0; i < count; i++) cover(&blocks->extents, blocks->of[i].piece);
}

// Forgets the blocks at rest: who drives the model may never use them again. In the end there is room for many more.
static void forget_those_at_rest(struct blocks *blocks) {
    size_t kept = 0, room = 1024;
    for (size_t i = 0; i < blocks->room; i++) {
        struct block *block = &blocks->of[i];
        if (!block->piece.address) continue;
        if (is_at_rest(blocks, block)) free(block->readers.of);
        else blocks->of[kept++] = *block;
    }
    cover_again(blocks, kept);
    while (room < 4 * kept) room *= 2;
    struct blocks fewer = {.count = kept, .room = room, .asked = blocks->asked, .extents = blocks->extents};
    fewer.of = grown(NULL, room * sizeof *fewer.of);
    memset(fewer.of, 0, room * sizeof *fewer.of);
    for (size_t i = 0; i < kept; i++) *place_of(&fewer, blocks->of[i].piece.address) = blocks->of[i];
    free(blocks->of);
    *blocks = fewer;
}

static bool has_place_for(struct blocks *blocks, struct piece piece) {
    const struct block *block = place_of(blocks, piece.address);
    return block->piece.address ? block->piece.bytes == piece.bytes : cover(&blocks->extents, piece);
}

// NULL: it overlaps others with work that is not over.
static struct block *block_at(struct blocks *blocks, struct piece piece) {
    if (2 * blocks->count >= blocks->room) forget_those_at_rest(blocks);
    if (!has_place_for(blocks, piece)) {
        forget_those_at_rest(blocks); // memory may be cut into other blocks, once all is over
        if (!has_place_for(blocks, piece)) return NULL;
    }
    struct block *block = place_of(blocks, piece.address);
    blocks->count += !block->piece.address;
    block->piece = piece, block->asked = blocks->asked;
    return block;
}

static void refer_if_under_way(struct references *all, struct reference one) {
    if (!is_over(one)) refer(all, one);
}

bool before(struct blocks *blocks, struct span reads, struct span writes, struct references *waits) {
    waits->count = 0, blocks->asked++;
    for (size_t i = 0; i < reads.count; i++) {
        const struct block *block = block_at(blocks, reads.of[i]);
        if (!block) return false;
        refer_if_under_way(waits, block->writer);
    }
    for (size_t i = 0; i < writes.count; i++) {
        const struct block *block = block_at(blocks, writes.of[i]);
        if (!block) return false;
        refer_if_under_way(waits, block->writer);
        for (size_t j = 0; j < block->readers.count; j++) refer_if_under_way(waits, block->readers.of[j]);
    }
    return true;
}

// Who waits for `later` need not wait for `earlier` as well.
static bool is_covered(struct reference earlier, const struct work *later) {
    bool are_on_device = earlier.work->is_on_device && later->is_on_device;
    return are_on_device && earlier.work->stream == later->stream;
}

static void add_reader(struct references *readers, struct work *work) {
    size_t kept = 0;
    for (size_t i = 0; i < readers->count; i++)
        if (!is_over(readers->of[i]) && !is_covered(readers->of[i], work)) readers->of[kept++] = readers->of[i];
    readers->count = kept;
    refer(readers, to(work));
}

void add(struct blocks *blocks, struct work *work, struct span reads, struct span writes) {
    for (size_t i = 0; i < reads.count; i++) add_reader(&place_of(blocks, reads.of[i].address)->readers, work);
    for (size_t i = 0; i < writes.count; i++) {
        struct block *block = place_of(blocks, writes.of[i].address);
        block->writer = to(work);
        block->readers.count = 0;
    }
}

static int by_stream_and_number(const void *left, const void *right) {
    const struct work *a = ((const struct reference *)left)->work, *b = ((const struct reference *)right)->work;
    if (a->stream != b->stream) return (uintptr_t)a->stream < (uintptr_t)b->stream ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

void keep_last_of_each_stream(struct references *all) {
    size_t kept = 0;
    if (all->count) qsort(all->of, all->count, sizeof *all->of, by_stream_and_number);
    for (size_t i = 0; i < all->count; i++)
        if (i + 1 == all->count || all->of[i].work->stream != all->of[i + 1].work->stream) all->of[kept++] = all->of[i];
    all->count = kept;
}

void forget_blocks(struct blocks *blocks) {
    for (size_t i = 0; i < blocks->room; i++) free(blocks->of[i].readers.of);
    free(blocks->of), free(blocks->extents.of);
    *blocks = (struct blocks){0};
}
