// A queue of pointers that grows; also a stack, at its end.
#ifndef WORKBENCH_STREAMS_QUEUE_H
#define WORKBENCH_STREAMS_QUEUE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct queue {
    void **at;
    size_t first, count, room; // room: a power of two, or 0
};

// What is asked for here is small: without it nothing can be kept in order any more.
static inline void *grown(void *memory, size_t bytes) {
    void *more = realloc(memory, bytes);
    if (more) return more;
    fprintf(stderr, "workbench: no %zu bytes for the lists of the streams\n", bytes);
    abort();
}

static inline void **in_queue(const struct queue *queue, size_t index) {
    return &queue->at[(queue->first + index) & (queue->room - 1)];
}

static inline void make_room(struct queue *queue) {
    size_t room = queue->room ? 2 * queue->room : 8;
    void **at = grown(NULL, room * sizeof *at);
    for (size_t i = 0; i < queue->count; i++) at[i] = *in_queue(queue, i);
    free(queue->at);
    *queue = (struct queue){.at = at, .count = queue->count, .room = room};
}

static inline void push(struct queue *queue, void *item) {
    if (queue->count == queue->room) make_room(queue);
    *in_queue(queue, queue->count++) = item;
}

// The one that was pushed first, or last; NULL: there is none.
static inline void *first_of(const struct queue *queue) { return queue->count ? *in_queue(queue, 0) : NULL; }

static inline void *pop_first(struct queue *queue) {
    if (!queue->count) return NULL;
    void *item = *in_queue(queue, 0);
    queue->first++, queue->count--;
    return item;
}

static inline void *pop_last(struct queue *queue) { return queue->count ? *in_queue(queue, --queue->count) : NULL; }

static inline void empty(struct queue *queue) {
    free(queue->at);
    *queue = (struct queue){0};
}

#endif
