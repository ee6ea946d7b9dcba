/* The calling thread's Python stack, read from the interpreter's own structures: no lock, no reference is counted, no
 * Python code runs. A thread's frames change only by that thread, so they stand still while it allocates, also where it
 * has let go of the GIL. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "recorder.h"

/* Where CPython keeps what is read here; from the headers of each version, the same in every release of it. */
struct layout {
    unsigned minor;
    int c_frame; /* in the thread state: of the holder of `current`; -1: the thread state holds it */
    int current;
    int code, previous, instruction, owner;                               /* of a frame */
    int bytecode, traceable, line_table, first_line, file_name, qualname; /* of a code object */
    int ascii_text, wide_text;                                            /* of a str */
};
static const struct layout layouts[] = {
    {11, 56, 8, 32, 48, 56, 69, 184, 168, 136, 72, 112, 128, 48, 72},
    {12, 56, 0, 0, 8, 56, 70, 192, 176, 136, 68, 112, 128, 40, 56},
    {13, -1, 72, 0, 8, 56, 70, 200, 184, 136, 68, 112, 128, 40, 56},
};
enum { STR_LENGTH = 16, STR_STATE = 32, BYTES_LENGTH = 16, BYTES_TEXT = 32 };
enum { OWNED_BY_GENERATOR = 1, OWNED_BY_C = 3 };

static const struct layout *python;
static void *(*thread_state)(void);

#define AT(type, base, offset) (*(type *)((const char *)(base) + (offset)))

/* Debug and free-threaded builds lay their structures out in other ways. */
void wb_find_python(void) {
    const unsigned long *version = wb_dlsym_beyond(RTLD_DEFAULT, "Py_Version");
    const char *(*describe)(void) = (const char *(*)(void))wb_dlsym_beyond(RTLD_DEFAULT, "Py_GetVersion");
    if (!version || !describe || *version >> 24 != 3) return;
    if (wb_dlsym_beyond(RTLD_DEFAULT, "_Py_NegativeRefcount") || strstr(describe(), "free-threading")) return;
    thread_state = (void *(*)(void))wb_dlsym_beyond(RTLD_DEFAULT, "PyGILState_GetThisThreadState");
    for (size_t i = 0; i < WB_COUNT(layouts); i++)
        if (layouts[i].minor == (*version >> 16 & 0xff) && thread_state) python = &layouts[i];
}

/* --- text --------------------------------------------------------------------------------------------------------- */

static uint32_t character(const void *text, unsigned kind, size_t i) {
    if (kind == 1) return ((const uint8_t *)text)[i];
    return kind == 2 ? ((const uint16_t *)text)[i] : ((const uint32_t *)text)[i];
}

static char *put_utf8(char *out, uint32_t c) {
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    *out++ = (char)((0xff00 >> (more + 1) & 0xff) | c >> 6 * more);
    while (more--) *out++ = (char)(0x80 | (c >> 6 * more & 0x3f));
    return out;
}

/* Copies a str as UTF-8, cut to what fits before `end`, with the zero that closes it. */
static char *put_str(char *out, const char *end, const void *str) {
    unsigned state = AT(uint32_t, str, STR_STATE), kind = state >> 2 & 7;
    bool compact = state & 0x20, ascii = state & 0x40;
    size_t length = compact ? AT(size_t, str, STR_LENGTH) : 0;
    const char *text = (const char *)str + (ascii ? python->ascii_text : python->wide_text);
    for (size_t i = 0; i < length && out + 5 < end; i++) out = put_utf8(out, character(text, kind, i));
    *out++ = 0;
    return out;
}

/* --- lines -------------------------------------------------------------------------------------------------------- */

static const uint8_t *varint(const uint8_t *at, unsigned *value) {
    unsigned shift = 0;
    *value = *at & 63;
    while (*at++ & 64) *value |= (*at & 63u) << (shift += 6);
    return at;
}

/* By how many lines an entry of the location table moves on; the forms are those of CPython's Objects/locations.md. */
static int line_delta(const uint8_t *entry) {
    unsigned form = *entry >> 3 & 15, value;
    if (form >= 10 && form <= 12) return (int)form - 10;
    if (form != 13 && form != 14) return 0;
    varint(entry + 1, &value);
    return value & 1 ? -(int)(value >> 1) : (int)(value >> 1);
}

static int line_of(const void *code, int instruction) {
    const void *bytes = AT(const void *, code, python->line_table);
    const uint8_t *entry = (const uint8_t *)bytes + BYTES_TEXT, *end = entry + AT(size_t, bytes, BYTES_LENGTH);
    int line = AT(int, code, python->first_line), reached = 0;
    while (entry < end) {
        line += line_delta(entry);
        reached += (*entry & 7) + 1;
        if (reached > instruction) return (*entry >> 3 & 15) == 15 ? 0 : line;
        for (entry++; entry < end && !(*entry & 0x80);) entry++;
    }
    return 0;
}

/* --- interning ---------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
    return hash ^ hash >> 32;
}

/* Tells code from other code that was at its address before: by the objects that it refers to, whose own addresses are
 * used again too, a few bytes apart. Large factors keep such differences from adding up to none. */
static uint64_t check_of(const void *code) {
    return AT(uint32_t, code, python->first_line) + AT(uintptr_t, code, python->qualname) * 0x9e3779b97f4a7c15ull +
           AT(uintptr_t, code, python->line_table) * 0xc2b2ae3d27d4eb4full +
           AT(uintptr_t, code, python->file_name) * 0xd6e8feb86659fd93ull;
}

static bool define_frame(struct wb_process *process, const void *code, int instruction, uint32_t id) {
    char text[WB_PATH];
    const char *end = text + sizeof text - 16;
    char *out = put_str(text, text + WB_PATH * 3 / 4, AT(const void *, code, python->file_name));
    out = put_str(out, end, AT(const void *, code, python->qualname));
    out += snprintf(out, 16, "%d", line_of(code, instruction));
    return wb_define(process, WB_FRAME, id, text, (size_t)(out - text));
}

/* Find the place of a frame in the table: its own, or the free one where it belongs; NULL: the table is full. */
static struct wb_frame *frame_place(struct wb_process *process, const void *code, int instruction, uint64_t check) {
    size_t at = ((uintptr_t)code >> 4) * 0x9e3779b1u + (size_t)instruction * 5;
    for (size_t i = 0; i < 64; i++) {
        struct wb_frame *place = &process->frame_table[(at + i) % WB_FRAMES];
        if (!atomic_load_explicit(&place->id, memory_order_acquire)) return place;
        if (place->code == (uintptr_t)code && place->instruction == instruction && place->check == check) return place;
    }
    return NULL;
}

static uint32_t new_frame(struct wb_process *process, const void *code, int instruction, uint64_t check) {
    wb_lock(process);
    struct wb_frame *place = frame_place(process, code, instruction, check);
    uint32_t id = place ? atomic_load(&place->id) : 0;
    if (place && !id && define_frame(process, code, instruction, process->frames + 1)) {
        place->code = (uintptr_t)code;
        place->check = check;
        place->instruction = instruction;
        id = ++process->frames;
        atomic_store_explicit(&place->id, id, memory_order_release);
    }
    wb_unlock(process);
    return id;
}

static uint32_t frame_id(struct wb_process *process, const void *code, int instruction) {
    uint64_t check = check_of(code);
    struct wb_frame *place = frame_place(process, code, instruction, check);
    uint32_t id = place ? atomic_load_explicit(&place->id, memory_order_acquire) : 0;
    return WB_LIKELY(id) ? id : new_frame(process, code, instruction, check);
}

static struct wb_stack *stack_place(struct wb_process *process, uint64_t hash) {
    for (size_t i = 0; i < 64; i++) {
        struct wb_stack *place = &process->stack_table[(hash + i) % WB_STACKS];
        if (!atomic_load_explicit(&place->id, memory_order_acquire) || place->hash == hash) return place;
    }
    return NULL;
}

static uint32_t stack_id(struct wb_process *process, uint64_t hash, const uint32_t *frames, size_t depth) {
    struct wb_stack *place = stack_place(process, hash);
    uint32_t id = place ? atomic_load_explicit(&place->id, memory_order_acquire) : 0;
    if (WB_LIKELY(id)) return id;
    wb_lock(process);
    place = stack_place(process, hash);
    id = place ? atomic_load(&place->id) : 0;
    if (place && !id && wb_define(process, WB_STACK, process->stacks + 1, frames, depth * sizeof *frames)) {
        place->hash = hash;
        id = ++process->stacks;
        atomic_store_explicit(&place->id, id, memory_order_release);
    }
    wb_unlock(process);
    return id;
}

/* --- walking ------------------------------------------------------------------------------------------------------ */

/* The instruction that a frame is at, in code units; -1 for frames that Python does not show either: those of the
 * interpreter itself, and those that have not begun. */
static int instruction_of(const void *frame) {
    int owner = AT(char, frame, python->owner);
    if (owner >= OWNED_BY_C) return -1;
    const char *code = AT(const char *, frame, python->code);
    long at = (AT(const char *, frame, python->instruction) - (code + python->bytecode)) / 2;
    return owner != OWNED_BY_GENERATOR && at < AT(int, code, python->traceable) ? -1 : (int)at;
}

static const void *innermost(void) {
    const void *holder = thread_state();
    if (holder && python->c_frame >= 0) holder = AT(const void *, holder, python->c_frame);
    return holder ? AT(const void *, holder, python->current) : NULL;
}

uint32_t wb_stack_of(struct wb_process *process) {
    if (!python) return 0;
    uint32_t frames[WB_DEEPEST];
    size_t depth = 0;
    uint64_t hash = 0;
    const void *frame = innermost();
    for (; frame && depth < WB_DEEPEST; frame = AT(const void *, frame, python->previous)) {
        int instruction = instruction_of(frame);
        if (instruction == -1) continue;
        frames[depth] = frame_id(process, AT(const void *, frame, python->code), instruction);
        if (!frames[depth]) return 0;
        hash = mix(hash, frames[depth++]);
    }
    return depth ? stack_id(process, hash, frames, depth) : 0;
}

WB_PUBLIC uint32_t wb_python_stack(void) {
    struct wb_process *process = wb_enter();
    if (!process) return 0;
    uint32_t stack = wb_stack_of(process);
    wb_leave();
    return stack;
}
