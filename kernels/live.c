/* What a process has in use, by layer and address: pairs each free with its allocation, for the scribe. See spool.h.
 *
 * The rows lie densely; an index of places, open addressing with linear probing, finds them. */
#include <stdlib.h>
#include <string.h>

#include "recorder.h"

#define SMALLEST 1024 /* slots; a power of two, at most half of them taken */

struct wb_live {
    struct wb_record *rows;
    uint32_t *index; /* place in `rows`, plus one; 0: an empty slot */
    size_t count;
    size_t slots;
};

static uint64_t key_of(const struct wb_record *row) { return row->address | (uint64_t)row->layer << 60; }

static size_t slot_of(const struct wb_live *live, uint64_t key) {
    return key * 0x9E3779B97F4A7C15u >> 32 & (live->slots - 1);
}

/* The slot of `key`, or the empty one where it belongs. */
static size_t find(const struct wb_live *live, uint64_t key) {
    size_t slot = slot_of(live, key);
    while (live->index[slot] && key_of(&live->rows[live->index[slot] - 1]) != key) slot = (slot + 1) & (live->slots - 1);
    return slot;
}

static int grow(struct wb_live *live) {
    size_t slots = live->slots ? live->slots * 2 : SMALLEST;
    struct wb_record *rows = realloc(live->rows, slots / 2 * sizeof *rows);
    if (!rows) return 0;
    live->rows = rows;
    uint32_t *index = calloc(slots, sizeof *index);
    if (!index) return 0;
    free(live->index);
    live->index = index;
    live->slots = slots;
    for (size_t place = 0; place < live->count; place++) index[find(live, key_of(&rows[place]))] = (uint32_t)place + 1;
    return 1;
}

static void put(struct wb_live *live, size_t slot, const struct wb_record *row) {
    memcpy(&live->rows[live->count++], row, sizeof *row);
    live->index[slot] = (uint32_t)live->count;
}

/* Empty a slot, and move those behind it that were pushed there to where they are found without it. */
static void clear(struct wb_live *live, size_t hole) {
    size_t mask = live->slots - 1;
    live->index[hole] = 0;
    for (size_t slot = (hole + 1) & mask; live->index[slot]; slot = (slot + 1) & mask) {
        size_t home = slot_of(live, key_of(&live->rows[live->index[slot] - 1]));
        if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
        live->index[hole] = live->index[slot];
        live->index[slot] = 0;
        hole = slot;
    }
}

static void take(struct wb_live *live, size_t slot) {
    size_t place = live->index[slot] - 1, last = live->count - 1;
    clear(live, slot);
    if (place != last) {
        live->index[find(live, key_of(&live->rows[last]))] = (uint32_t)place + 1;
        memcpy(&live->rows[place], &live->rows[last], sizeof *live->rows);
    }
    live->count--;
}

/* Whether a range of addresses touches memory that some allocation of the host took. */
static int touches(const struct wb_live *live, const struct wb_record *range) {
    uint64_t start = range->address, end = start + range->bytes;
    for (size_t place = 0; place < live->count; place++) {
        const struct wb_record *row = &live->rows[place];
        if (row->layer == WB_HOST && row->address < end && row->address + row->bytes > start) return 1;
    }
    return 0;
}

static struct wb_record *append(struct wb_live_out *out, const struct wb_record *row) {
    return memcpy(&out->rows[out->count++], row, sizeof *row);
}

static struct wb_record *append_free(struct wb_live_out *out, const struct wb_record *row, uint64_t time_ns) {
    struct wb_record *free = append(out, row);
    free->kind = WB_FREE;
    free->time_ns = time_ns;
    return free;
}

WB_PUBLIC struct wb_live *wb_live_new(void) {
    struct wb_live *live = calloc(1, sizeof *live);
    if (live && grow(live)) return live;
    free(live);
    return NULL;
}

WB_PUBLIC void wb_live_delete(struct wb_live *live) {
    free(live->rows);
    free(live->index);
    free(live);
}

WB_PUBLIC size_t wb_live_rows(const struct wb_live *live, struct wb_record *out) {
    if (out) memcpy(out, live->rows, live->count * sizeof *out);
    return live->count;
}

static void allocate(struct wb_live *live, size_t slot, const struct wb_record *event, struct wb_live_out *out) {
    if (live->index[slot]) {
        struct wb_record *row = &live->rows[live->index[slot] - 1];
        append_free(out, row, event->time_ns);
        memcpy(row, event, sizeof *row);
    } else {
        put(live, slot, event);
    }
    append(out, event);
}

static void give_back(struct wb_live *live, size_t slot, const struct wb_record *event, struct wb_live_out *out) {
    struct wb_record *free = append_free(out, &live->rows[live->index[slot] - 1], event->time_ns);
    free->thread = event->thread;
    free->flags = event->flags;
    take(live, slot);
}

WB_PUBLIC size_t wb_live_apply(struct wb_live *live, const struct wb_record *events, size_t count, struct wb_live_out *out) {
    for (const struct wb_record *event = events; event < events + count; event++) {
        if (live->count * 2 >= live->slots && !grow(live)) return event - events;
        size_t slot = find(live, key_of(event));
        uint32_t known = live->index[slot];
        if (event->kind == WB_ALLOC) {
            allocate(live, slot, event, out);
            continue;
        }
        int of_range = event->flags & WB_RANGE;
        if (of_range && (known ? live->rows[known - 1].bytes != event->bytes : touches(live, event))) return event - events;
        if (known) give_back(live, slot, event, out);
        else if (!of_range) out->unknown_frees++;
    }
    return count;
}
