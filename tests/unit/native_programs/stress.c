/* Threads that come and go, a timer whose handler maps memory, and forks in between, all at once. Prints how many events
 * this process has made; a child exits 0 if it came through. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 40, BLOCKS = 200, CHILDREN = 20 };
static _Atomic long events;

static void on_timer(int signal) {
    (void)signal;
    void *memory = mmap(NULL, 1 << 17, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(memory, 1 << 17);
    events += 2;
}

static void *allocate(void *seed) {
    unsigned random = (unsigned)(size_t)seed;
    for (int i = 0; i < BLOCKS; i++) {
        char *block = malloc(70000 + (size_t)rand_r(&random) % 100000);
        memset(block, 1, 70000);
        free(block);
        events += 2;
    }
    return NULL;
}

static int child(void) {
    free(calloc(3, 100000));
    pthread_t thread;
    pthread_create(&thread, NULL, allocate, (void *)1);
    return pthread_join(thread, NULL);
}

static void *fork_often(void *unused) {
    for (int i = 0; i < CHILDREN; i++) {
        pid_t pid = fork();
        if (pid == 0) _exit(child());
        int status = 1;
        while (waitpid(pid, &status, 0) < 0) continue;
        if (status) abort();
    }
    return unused;
}

int main(void) {
    struct itimerval often = {{0, 300}, {0, 300}};
    signal(SIGALRM, on_timer);
    setitimer(ITIMER_REAL, &often, NULL);
    pthread_t forker, threads[THREADS];
    pthread_create(&forker, NULL, fork_often, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, allocate, (void *)(i + 1));
        for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    }
    pthread_join(forker, NULL);
    signal(SIGALRM, SIG_IGN);
    printf("%ld\n", events);
    return 0;
}
