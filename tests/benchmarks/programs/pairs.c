/* Nanoseconds of a malloc and its free: pairs SIZE ROUNDS. The least of the rounds: what disturbs only adds. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PAIRS 50000
#define REST_US 400000 /* in which the scribe takes what was recorded: the ring is never full */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static double pair_ns(size_t size) {
    double start = now();
    for (int i = 0; i < PAIRS; i++) {
        char *volatile block = malloc(size);
        *block = 1;
        free(block);
    }
    return (now() - start) / PAIRS;
}

int main(int count, char **arguments) {
    double least = 1e18;
    if (count != 3) return 2;
    pair_ns(strtoul(arguments[1], NULL, 10));
    for (int round = atoi(arguments[2]); round > 0; round--) {
        usleep(REST_US);
        double ns = pair_ns(strtoul(arguments[1], NULL, 10));
        if (ns < least) least = ns;
    }
    printf("{\"pair_ns\": %.1f}\n", least);
    return 0;
}
