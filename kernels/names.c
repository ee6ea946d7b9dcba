/* Definitions that records refer to: appended to the process's .names file before they are used. See spool.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "recorder.h"

/* The file is opened for each definition: there are few, and a program may close descriptors that are not its own. */
bool wb_define(struct wb_process *process, enum wb_definition_kind kind, uint32_t id, const void *text, size_t length) {
    char path[WB_PATH + 8];
    snprintf(path, sizeof path, "%s.names", process->base);
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) {
        wb_fail(process, errno);
        return false;
    }
    struct wb_definition head = {.kind = kind, .id = id, .length = (uint32_t)length};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)text, length}};
    size_t whole = sizeof head + length;
    ssize_t written = syscall(SYS_writev, file, parts, 2);
    if (written == (ssize_t)whole) {
        process->definitions += (off_t)whole;
    } else {
        wb_fail(process, written < 0 ? errno : ENOSPC);
        syscall(SYS_ftruncate, file, process->definitions);
    }
    syscall(SYS_close, file);
    return written == (ssize_t)whole;
}

/* Names outlive a fork, since a thread's tag and Python hold ids. So they lie in ordinary memory and are only ever
 * added, without a lock that a fork could leave held; each process defines those it uses in its own file. */
struct name {
    uint32_t id;
    char text[];
};
static _Atomic(const struct name *) name_table[WB_NAMES * 2];
static _Atomic(const struct name *) name_of[WB_NAMES];
static _Atomic uint32_t names;
static _Alignas(struct name) char name_texts[WB_NAMES * 48];
static _Atomic size_t name_texts_used;

static uint64_t hash_of(const char *text) {
    uint64_t hash = 14695981039346656037ull;
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 1099511628211ull;
    return hash ^ (hash >> 29);
}

static const struct name *new_name(const char *text) {
    size_t length = strlen(text) + 1, size = (sizeof(struct name) + length + 3) & ~(size_t)3;
    size_t at = atomic_fetch_add(&name_texts_used, size);
    uint32_t id = atomic_fetch_add(&names, 1) + 1;
    if (at + size > sizeof name_texts || id >= WB_NAMES) return NULL;
    struct name *name = (struct name *)(name_texts + at);
    name->id = id;
    memcpy(name->text, text, length);
    atomic_store(&name_of[id], name);
    return name;
}

WB_PUBLIC uint32_t wb_name(const char *text) {
    const struct name *made = NULL;
    for (size_t i = hash_of(text);; i++) {
        _Atomic(const struct name *) *place = &name_table[i % WB_COUNT(name_table)];
        const struct name *name = atomic_load_explicit(place, memory_order_acquire);
        if (!name) {
            if (!made && !(made = new_name(text))) return 0;
            if (atomic_compare_exchange_strong(place, &name, made)) return made->id;
        }
        if (strcmp(name->text, text) == 0) return name->id;
    }
}

void wb_define_new_name(struct wb_process *process, uint32_t id) {
    if (id >= WB_NAMES) return;
    const struct name *name = atomic_load(&name_of[id]);
    _Atomic uint64_t *defined = &process->defined[id / 64];
    uint64_t bit = (uint64_t)1 << id % 64;
    wb_lock(process);
    if (name && !(atomic_load(defined) & bit) && wb_define(process, WB_NAME, id, name->text, strlen(name->text)))
        atomic_fetch_or_explicit(defined, bit, memory_order_release);
    wb_unlock(process);
}
