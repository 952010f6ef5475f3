/* The references of a queue's messages (covey/memory/keeper_requests.cpp: attach, detach; lane_writer.cpp: publish;
   queue_lanes.cpp: release, return_from_the_dead, recover_lane; docs/design/memory.md, "Of messages"): one producer puts MESSAGES
   messages, each with a thing of its own; three others get them, and clean up after whom they find dead; up to KILLS of the four are
   killed between any two atomic steps. The keeper reads the members' sockets in any order, and what the
   dead had sent is read too, at any time after its death. models/check runs this.

   Memory: sequentially consistent here. In the code: a slot's state is one word, stored with release and read with acquire; what goes
   to the keeper goes over sockets.

   Shown: a message is never delivered whose thing is gone; and when all is quiet, nothing is kept, and all was got or given up.

   BUG: 1 attach is not waited for; 2 the keeper serves attach from the dead; 3 the taker's slot is free before it says detach;
        4 the taker says detach before the slot says done; 5 who passes a position over marks it before it says detach;
        6 who finds a slot done in a dead hand frees it before it says detach. */
#ifndef BUG
#define BUG 0
#endif
#ifndef KILLS
#define KILLS 2
#endif
#ifndef MESSAGES
#define MESSAGES 1
#endif
#define MEMBERS 4 /* 0 puts, the others get */

mtype = { untouched, reserved, queued, in_flight, done, freed, passed };
mtype state[MESSAGES] = untouched;
byte hand[MESSAGES];     /* of in_flight and done: whose. With the state one word. */
bool attached[MESSAGES]; /* the keeper's book: the thing lives as long */
bool dead[MEMBERS];
byte kills;

/* A member's socket: what it said and the keeper has not read. */
typedef line_t { bool attach[MESSAGES], detach[MESSAGES]; bool answered };
line_t line[MEMBERS];

/* In the order in which it was said: attach comes before detach. */
#define READ(who, m) \
  atomic { line[who].attach[m] -> line[who].attach[m] = false; \
    if :: !dead[who] || BUG == 2 -> attached[m] = true; line[who].answered = true :: else fi } \
  :: atomic { line[who].detach[m] && !line[who].attach[m] -> line[who].detach[m] = false; attached[m] = false }

active proctype keeper() {
end:
  do
  :: READ(0, 0)
  :: READ(1, 0)
  :: READ(2, 0)
  :: READ(3, 0)
#if MESSAGES > 1
  :: READ(0, 1)
  :: READ(1, 1)
  :: READ(2, 1)
  :: READ(3, 1)
#endif
  od
}

active proctype producer() {
  byte m;
  {
    do
    :: m == MESSAGES -> break
    :: else ->
       state[m] = reserved;
       atomic { line[0].attach[m] = true; line[0].answered = false };
       line[0].answered || BUG == 1;
       state[m] = queued;
       m++
    od
  } unless { dead[0] };
}

/* What one that gets does with message m. */
#define WORK(m) \
  atomic { state[m] == queued -> state[m] = in_flight; hand[m] = me }; \
     assert(attached[m]); \
     if \
     :: BUG == 3 -> state[m] = freed; line[me].detach[m] = true \
     :: BUG == 4 -> line[me].detach[m] = true; state[m] = done; state[m] = freed \
     :: BUG != 3 && BUG != 4 -> state[m] = done; line[me].detach[m] = true; state[m] = freed \
     fi \
  :: atomic { state[m] == in_flight && dead[hand[m]] -> state[m] = queued } \
  :: atomic { state[m] == done && dead[hand[m]] -> whose = hand[m] }; \
     if \
     :: BUG != 6 -> line[me].detach[m] = true; \
        atomic { if :: state[m] == done && hand[m] == whose -> state[m] = freed :: else fi } \
     :: BUG == 6 -> atomic { if :: state[m] == done && hand[m] == whose -> state[m] = freed :: else fi }; \
        line[me].detach[m] = true \
     fi \
  :: state[m] == reserved && dead[0] -> \
     if \
     :: BUG != 5 -> line[me].detach[m] = true; atomic { if :: state[m] == reserved -> state[m] = passed :: else fi } \
     :: BUG == 5 -> atomic { if :: state[m] == reserved -> state[m] = passed :: else fi }; line[me].detach[m] = true \
     fi

proctype taker(byte me) {
  byte whose;
  {
end:
    do
    :: WORK(0)
#if MESSAGES > 1
    :: WORK(1)
#endif
    od
  } unless { dead[me] };
}

active proctype fate() {
  do
  :: atomic { kills < KILLS -> kills++; if :: dead[0] = true :: dead[1] = true :: dead[2] = true :: dead[3] = true fi }
  :: break
  od
}

#define OVER(m) (!attached[m] && (state[m] == freed || state[m] == passed || (state[m] == untouched && dead[0])))

init {
  atomic { run taker(1); run taker(2); run taker(3) };
  timeout;
  assert(OVER(0));
#if MESSAGES > 1
  assert(OVER(1));
#endif
}
