// Work that touches the same blocks runs in the order in which it was submitted: who reads a block waits for its
// writer; who writes it, for its writer and all its readers.
#include "streams.h"

struct block {
    uint64_t address; // 0: nothing is here
    struct reference writer; // the last one
    struct references readers; // since then
};

void refer(struct references *all, struct reference one) {
    if (all->count == all->room) {
        all->room = all->room ? 2 * all->room : 2;
        all->of = grown(all->of, all->room * sizeof *all->of);
    }
    all->of[all->count++] = one;
}

static struct block *place_of(const struct blocks *blocks, uint64_t address) {
    uint64_t at = address * 0x9e3779b97f4a7c15ull >> 20;
    while (blocks->of[at & (blocks->room - 1)].address && blocks->of[at & (blocks->room - 1)].address != address) at++;
    return &blocks->of[at & (blocks->room - 1)];
}

static void grow(struct blocks *blocks) {
    struct blocks more = {.count = blocks->count, .room = blocks->room ? 2 * blocks->room : 1024};
    more.of = grown(NULL, more.room * sizeof *more.of);
    memset(more.of, 0, more.room * sizeof *more.of);
    for (size_t i = 0; i < blocks->room; i++)
        if (blocks->of[i].address) *place_of(&more, blocks->of[i].address) = blocks->of[i];
    free(blocks->of);
    *blocks = more;
}

static struct block *block_at(struct blocks *blocks, uint64_t address) {
    if (2 * blocks->count >= blocks->room) grow(blocks);
    struct block *block = place_of(blocks, address);
    blocks->count += !block->address;
    block->address = address;
    return block;
}

static void refer_if_under_way(struct references *all, struct reference one) {
    if (!is_over(one)) refer(all, one);
}

void before(struct blocks *blocks, struct span reads, struct span writes, struct references *waits) {
    waits->count = 0;
    for (size_t i = 0; i < reads.count; i++) refer_if_under_way(waits, block_at(blocks, reads.of[i])->writer);
    for (size_t i = 0; i < writes.count; i++) {
        const struct block *block = block_at(blocks, writes.of[i]);
        refer_if_under_way(waits, block->writer);
        for (size_t j = 0; j < block->readers.count; j++) refer_if_under_way(waits, block->readers.of[j]);
    }
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
    for (size_t i = 0; i < reads.count; i++) add_reader(&block_at(blocks, reads.of[i])->readers, work);
    for (size_t i = 0; i < writes.count; i++) {
        struct block *block = block_at(blocks, writes.of[i]);
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
    free(blocks->of);
    *blocks = (struct blocks){0};
}
