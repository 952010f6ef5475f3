/* The queue (docs/design/queue.md; covey/ipc/queue_lanes.cpp, lane_writer.cpp, queue_put.cpp, queue_get.cpp): PRODUCERS put MESSAGES each,
   CONSUMERS get them until the queue is closed, up to KILLS of them are killed between any two atomic steps (never the last
   consumer), and up to STOPS are stopped for ever. models/check runs this with several bounds.

   Memory: sequentially consistent here. In the code: what a message is made of is stored before the release exchange of its
   state, and read after the acquire load or swap of the same word. Where one side stores and then looks at
   another word (commit, then sleepers; release, then sleepers and joiners; counting oneself as a sleeper, then the states; closing,
   then the states; commit, then `closed`) both sides have a sequentially consistent read-modify-write or fence between the two.
   Positions never go back, and each slot's state is one word, so an old value read late fails its compare-and-swap.

   Not here: bytes and quotas (quota.pml), roles, payloads, several put or got at once, when another lane has its turn.

   Shown: a message is taken again only when who had it is dead; it is finished at most once; (no invalid end state) all that
   was committed is finished, and nobody sleeps for ever; no state is seen that the code would call damage.

   With -DPREPARED the messages lie there from the start, and there are consumers only: what comes of one that is killed with a message
   in hand, beside another, is seen to the end within few states.

   Without -DFINE the first look before a sleep is left out (the second is the one that matters), and waking everybody is one step.

   BUG: 1 the head is moved before the slot is taken; 2 who sleeps does not look again after it has counted itself; 3 a scan that
        saw a message in a dead hand says that none came back; 4 a dead owner's reserved position is not passed over; 5 the owner does not pass over a
        slot that is in somebody's hand; 6 a retracted message wakes nobody who joins; 7 readers look for messages before they look
        whether it is closed; 8 who slept does not look again in time, although somebody that got its wake may be stopped; 9 who
        slept is counted off after it was woken; 10 what is in a dead hand does not come back.
   models/check looks for all but three. 3 takes a third consumer, which looks between the two steps of one that sweeps after the
   death of another, and 9 two sleepers and two wakers: within millions of states neither shows. 5 makes the owner wait for whoever has the message in hand:
   if that one is stopped, for ever, but looking again in time, which is no deadlock to spin. */
#ifndef BUG
#define BUG 0
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef LANES
#define LANES PRODUCERS
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef CLOSE_EARLY
#define CLOSE_EARLY 0
#endif
#ifndef PRODUCERS_SWEEP
#define PRODUCERS_SWEEP 0
#endif
#ifndef PREPARED
#define PREPARED 0
#endif
#ifndef FIRST_VICTIM
#define FIRST_VICTIM 0
#endif
#ifndef LAG
#define LAG 1  /* how many a taker may have taken without moving the head */
#endif
#define SLOTS 2
#define QUOTA 2
#define WORKERS (PRODUCERS + CONSUMERS)  /* producers first; one more joins and closes */
#define ALL_MESSAGES (PRODUCERS * MESSAGES)

mtype = { fresh, free, queued, in_flight };
typedef state_t { mtype kind; byte at, deliveries, hand };          /* one 64-bit word: changed in one step only */
typedef slot_t { mtype kind; byte at, deliveries, hand; byte position, skipped, message };
typedef lane_t { slot_t slot[SLOTS]; byte tail, head, owner };      /* owner, hand: 1 + worker; 0 is nobody */
lane_t lane[LANES];
byte late, late_done, swept, deaths;
bool closed;
byte sleepers[3], word[3];  /* readable, writable, idle */
#define READABLE 0
#define WRITABLE 1
#define IDLE 2
byte asleep[WORKERS + 1];   /* 1 + the word on which it sleeps */
bool alive[WORKERS + 1], kill[WORKERS + 1], stopped[WORKERS + 1];
byte stops;

/* What really happened. */
byte committed[ALL_MESSAGES], finished[ALL_MESSAGES], refused[ALL_MESSAGES];
byte holder[ALL_MESSAGES];  /* 1 + who has taken it */
bool was_at_dead[ALL_MESSAGES], told[ALL_MESSAGES];
bool gone[PRODUCERS];       /* producers that put no more */

#define SLOT(l, p) lane[l].slot[(p) % SLOTS]
#define LOAD(l, p) s.kind = SLOT(l, p).kind; s.at = SLOT(l, p).at; s.deliveries = SLOT(l, p).deliveries; s.hand = SLOT(l, p).hand
#define SAME(l, p) (SLOT(l, p).kind == s.kind && SLOT(l, p).at == s.at && SLOT(l, p).deliveries == s.deliveries && SLOT(l, p).hand == s.hand)
#define STORE(l, p, k, a, d, h) SLOT(l, p).kind = k; SLOT(l, p).at = a; SLOT(l, p).deliveries = d; SLOT(l, p).hand = h

/* ---- looking ---- */

#define EMPTY 0
#define WAITING 1
#define PASSED 2
#define START 3
#define LOOK 4
#define HELD 5
#define HELD_BY 6
#define OLDER 7

/* What stands at position p, in `seen`. Each line is one access to shared memory; UNCLEAR says what comes of a change meanwhile. */
#define LOOK_LINES(l, p, UNCLEAR, FOUND) \
  :: atomic { seen == LOOK -> LOAD(l, p); \
       if \
       :: s.kind == in_flight -> seen = HELD \
       :: s.kind == fresh -> seen = OLDER \
       :: else -> \
          if \
          :: s.at > p -> assert(lane[l].head > p); UNCLEAR \
          :: s.at == p -> seen = (s.kind == queued -> WAITING : PASSED); FOUND \
          :: else -> seen = OLDER \
          fi \
       fi } \
  :: atomic { seen == HELD -> has = SLOT(l, p).position; seen = HELD_BY } \
  :: atomic { seen == HELD_BY -> \
       if \
       :: !SAME(l, p) || has > p -> UNCLEAR \
       :: else -> if :: has == p -> seen = PASSED; FOUND :: else -> seen = OLDER fi \
       fi; \
       has = 0 } \
  :: atomic { seen == OLDER -> \
       assert(!(s.kind == fresh && p >= SLOTS && SLOT(l, p).skipped == 0)); \
       seen = (SLOT(l, p).skipped == p + 1 -> PASSED : EMPTY); FOUND }

inline look(l, p) {
  seen = LOOK;
  do
  LOOK_LINES(l, p, seen = EMPTY; break, break)
  od;
  has = 0
}

/* Moves the head over what has been passed; `head` and `seen` say what is there then. */
inline settle(l) {
  seen = START;
  do
  :: atomic { seen == START -> head = lane[l].head; seen = LOOK }
  LOOK_LINES(l, head, seen = START, if :: seen != PASSED -> break :: else fi)
  :: atomic { seen == PASSED -> if :: lane[l].head == head -> lane[l].head++ :: else fi; seen = START }
  od
}

/* ---- sleeping ---- */

#define UNPARK_ONE(w) \
  if  /* whichever the kernel picks */ \
  :: asleep[0] == 1 + w -> asleep[0] = 0 \
  :: asleep[1] == 1 + w -> asleep[1] = 0 \
  :: asleep[2] == 1 + w -> asleep[2] = 0 \
  :: WORKERS > 2 && asleep[THIRD] == 1 + w -> asleep[THIRD] = 0 \
  :: WORKERS > 3 && asleep[FOURTH] == 1 + w -> asleep[FOURTH] = 0 \
  :: else \
  fi
#if WORKERS > 2
#define THIRD 3
#else
#define THIRD 2
#endif
#if WORKERS > 3
#define FOURTH 4
#else
#define FOURTH 2
#endif
#define UNPARK_ALL(w) \
  i = 0; \
  do :: i <= WORKERS -> if :: asleep[i] == 1 + w -> asleep[i] = 0 :: else fi; i++ :: else -> i = 0; break od

/* Counted off first, then woken: the other way round two wakers count off the same sleeper, and one that comes meanwhile. */
inline wake(w) {
  do
  :: atomic { n == 0 -> if :: sleepers[w] == 0 -> break :: else -> n = 1; if :: BUG != 9 -> sleepers[w]-- :: else fi fi }
  :: atomic { n == 1 -> word[w]++; n = 2 }
  :: atomic { n == 2 -> UNPARK_ONE(w); n = 3 }
  :: atomic { n == 3 -> n = 0; if :: BUG == 9 && sleepers[w] != 0 -> sleepers[w]-- :: else fi; break }
  od
}

inline wake_all(w) {
#if FINE
  atomic { sleepers[w] = 0; n = 0 };
  word[w]++;
  atomic { UNPARK_ALL(w) }
#else
  atomic { sleepers[w] = 0; n = 0; word[w]++; UNPARK_ALL(w) }
#endif
}

inline wake_everybody() { wake_all(READABLE); wake_all(WRITABLE); wake_all(IDLE) }

/* After a time, who sleeps looks again. That is needed only where somebody got a wake and was stopped. */
inline park(w) {
  d_step { if :: word[w] == expected && deaths == known -> asleep[me] = 1 + w :: else fi }
  if
  :: asleep[me] == 0
  :: stops != 0 && BUG != 8 && timeout -> asleep[me] = 0
  fi
}

inline count_as_sleeper(w) { expected = word[w]; sleepers[w]++ }

/* ---- finishing, and the dead ---- */

inline release(l, p) {
  d_step {
    STORE(l, p, free, p, 0, 0);
    assert(finished[message] == 0);
    finished[message]++;
    holder[message] = 0
  }
}

inline joined() {  /* idle(): what is in flight or waits, all slots; the snapshots that make it one instant are one step here */
  d_step {
    n = 1; i = 0;
    do
    :: i < LANES * SLOTS ->
       if
       :: lane[i / SLOTS].slot[i % SLOTS].kind == queued || lane[i / SLOTS].slot[i % SLOTS].kind == in_flight -> n = 0
       :: else
       fi
       i++
    :: else -> break
    od;
    i = 0
  }
}

inline after_release() {
  n = 0; wake(WRITABLE);
  if
  :: sleepers[IDLE] != 0 -> joined(); if :: n -> wake_all(IDLE) :: else -> n = 0 fi
  :: else
  fi
}

inline recover_lane(l) {
  settle(l);
  atomic { from = head; to = lane[l].tail };
  do
  :: from < to ->
     look(l, from);
     d_step {
       if
       :: seen == EMPTY && SLOT(l, from).skipped < from + 1 && BUG != 4 -> SLOT(l, from).skipped = from + 1
       :: else
       fi;
       from++
     }
  :: else -> break
  od;
  from = 0; to = 0
}

inline sweep() {
  known = deaths;
  if
  :: swept == known
  :: else ->
     at = 0;
     do
     :: atomic {
          at < LANES -> was = lane[at].owner;
          if :: was != 0 && was != me + 1 && !alive[was - 1] :: else -> was = 0 fi
        }
        atomic { if :: was != 0 && lane[at].owner == was -> lane[at].owner = me + 1 :: else -> was = 0 fi }
        if
        :: was != 0 -> recover_lane(at); lane[at].owner = 0
        :: else
        fi
        at++
     :: else -> break
     od;
     at = 0;
     do
     :: atomic {
          at < LANES * SLOTS -> LOAD(at / SLOTS, at);
          if :: s.kind == in_flight && !alive[s.hand - 1] && BUG != 10 -> seen = HELD; late++ :: else -> seen = EMPTY fi
        }
        atomic { if :: seen == HELD -> has = SLOT(at / SLOTS, at).position :: else fi }
        atomic {
          if
          :: seen == HELD && SAME(at / SLOTS, at) -> STORE(at / SLOTS, at, queued, has, s.deliveries + 1, 0)
          :: else
          fi;
          has = 0; at++
        }
     :: else -> break
     od;
     at = 0; was = 0;
     atomic { swept = known; s.kind = fresh; s.at = 0; s.deliveries = 0; s.hand = 0; seen = EMPTY; head = 0 }
     wake_everybody()
  fi
}

/* ---- getting ---- */

inline take(l, p) {  /* the state seen in `s`; `got` says whether */
  d_step {
    if
    :: SAME(l, p) ->
       message = SLOT(l, p).message;
       assert(holder[message] == 0 || !alive[holder[message] - 1]);
       holder[message] = me + 1;
       mine = l; position = s.at;
       STORE(l, p, in_flight, 0, s.deliveries, me + 1);
       got = true
    :: else
    fi
  }
}

inline move_head() {
  if
  :: ahead != 0 ->
     atomic { ahead = 0; head = lane[row].head }
     do
     :: atomic { head < next -> if :: lane[row].head == head -> lane[row].head = next; head = next :: else -> head = lane[row].head fi }
     :: else -> break
     od;
     head = 0
  :: else
  fi
}

/* Late ones first; then the next of the lane that gave the last one, if it came the first time; then what stands at the lanes' heads. */
inline take_some() {
  known_late = late_done;
  atomic { if :: late != known_late -> from = late; at = 0 :: else -> at = LANES * SLOTS fi; known_late = 0 }
  do
  :: atomic {
       at < LANES * SLOTS && !got -> LOAD(at / SLOTS, at);
       if :: s.kind == in_flight && !alive[s.hand - 1] && BUG != 3 -> known_late = 1 :: else fi;
       if :: s.kind == queued && s.deliveries != 0 -> seen = WAITING :: else -> at++; seen = EMPTY fi
     }
     atomic { if :: seen == WAITING -> take(at / SLOTS, at); at = 0 :: else fi }
  :: atomic { else -> if :: !got && known_late == 0 && from > late_done -> late_done = from :: else fi; known_late = 0; from = 0; at = 0; break }
  od;
  if
  :: !got && next != 0 ->
     atomic { LOAD(row, next); if :: s.kind == queued && s.at == next && s.deliveries == 0 -> seen = WAITING :: else -> seen = EMPTY fi }
     atomic { if :: seen == WAITING -> take(row, next) :: else fi; if :: got -> next++; ahead++ :: else fi }
     if :: !got || ahead > LAG -> move_head() :: else fi
  :: else
  fi
  do
  :: at < LANES && !got ->
     if :: at != row -> move_head() :: else fi
     settle(at);
     if
     :: atomic { seen == EMPTY -> at++ }
     :: atomic { seen == WAITING && BUG == 1 -> if :: lane[at].head == head -> lane[at].head++ :: else -> seen = PASSED fi }
        if :: seen == WAITING -> take(at, head) :: else fi
     :: atomic { seen == WAITING && BUG != 1 -> take(at, head) }
        atomic { if :: got -> row = at; next = head + 1; ahead = 1 :: else fi }
     fi
  :: atomic { else -> at = 0; head = 0; seen = EMPTY; s.kind = fresh; s.at = 0; s.deliveries = 0; s.hand = 0; break }
  od
}

proctype consumer(byte me) {
  state_t s; byte seen, has, head, from, to, at, was, n, i, known, known_late, expected, mine, position, message; bool got, end;
  byte row, next, ahead;  /* where it stands, and how far the head may lag behind that */
  {
    do
    :: sweep();
       end = closed;
#if FINE || BUG == 2 || BUG == 7
       take_some();
#endif
       if :: BUG == 7 -> end = closed :: else fi
#if FINE || BUG == 2 || BUG == 7
       if :: !got && end -> break :: else fi
#endif
       if
       :: got
       :: else ->
          count_as_sleeper(READABLE);
          if :: BUG != 2 && BUG != 7 -> take_some() :: else fi
          if
          :: got
          :: !got && end -> break
          :: !got && !end -> if :: closed && BUG != 2 :: else -> park(READABLE) fi
          fi
       fi
       if
       :: got -> n = 0; wake(WRITABLE); release(mine, position); got = false; position = 0; message = 0; after_release()
       :: else
       fi
    od
  } unless { kill[me] || stopped[me] };
  if
  :: kill[me] ->
     d_step {
       alive[me] = false; asleep[me] = 0; i = 0;
       do :: i < ALL_MESSAGES -> if :: holder[i] == me + 1 -> was_at_dead[i] = true :: else fi; i++ :: else -> break od;
       i = 0
     }
     d_step { deaths++; do :: i <= WORKERS -> asleep[i] = 0; i++ :: else -> break od; i = 0 }
  :: else
  fi
}

/* ---- putting ---- */

inline claim() {
  own = 0;
  do
  :: own < LANES ->
     was = lane[own].owner;
     if
     :: was == 0 || !alive[was - 1] ->
        d_step { if :: lane[own].owner == was -> lane[own].owner = me + 1; was = 99 :: else fi }
        if :: was == 99 -> break :: else -> own++ fi
     :: else -> own++
     fi
  :: else -> own = 0  /* as in the model alone: waits for a lane; the code refuses it with a sentence */
  od;
  was = 0;
  recover_lane(own)
}

/* `got` says whether the message was committed. */
inline publish() {
  do
  :: if :: lane[own].tail - limit >= QUOTA -> settle(own); atomic { limit = head; head = 0; seen = EMPTY } :: else fi
     if
     :: lane[own].tail - limit >= QUOTA -> break  /* no room */
     :: else ->
        position = lane[own].tail;
        d_step { LOAD(own, position); got = (s.kind == queued || s.kind == in_flight) }  /* is_taken */
        if
        :: got && BUG == 5 -> got = false; break
        :: else
        fi
        lane[own].tail++;
        if
        :: got -> got = false; SLOT(own, position).skipped = position + 1
        :: else ->
           d_step { SLOT(own, position).position = position; SLOT(own, position).message = message }
           d_step {
             assert(SLOT(own, position).kind != queued && SLOT(own, position).kind != in_flight);
             STORE(own, position, queued, position, 0, 0);
             committed[message] = true; got = true
           }
           break
        fi
     fi
  od
}

proctype producer(byte me) {
  state_t s; byte seen, has, head, from, to, at, was, n, i, known, expected, own, position, message, round; bool got, end;
  byte limit;  /* the head, when it was last looked at */
  {
    claim();
    limit = lane[own].head;
    do
    :: round < MESSAGES ->
       message = me * MESSAGES + round;
       do
       :: if :: PRODUCERS_SWEEP -> sweep() :: else -> known = deaths fi
          if :: closed -> end = true; break :: else fi
#if FINE || BUG == 2
          publish();
          if :: got -> break :: else fi
#endif
          count_as_sleeper(WRITABLE);
          if :: BUG != 2 -> publish() :: else fi
          if
          :: got -> break
          :: !got && closed
          :: else -> park(WRITABLE)
          fi
       od;
       if
       :: end -> break
       :: else
       fi
       if
       :: closed ->
          d_step {
            if
            :: SLOT(own, position).kind == queued && SLOT(own, position).at == position && SLOT(own, position).deliveries == 0 ->
               STORE(own, position, in_flight, 0, 0, me + 1); refused[message] = true; holder[message] = me + 1
            :: else
            fi
          }
          if
          :: refused[message] ->
             release(own, position);
             if :: BUG != 6 -> after_release() :: else fi
             break
          :: else
          fi
       :: else
       fi
       told[message] = true;
       n = 0; wake(READABLE);
       got = false;
       round++
    :: else -> break
    od;
    lane[own].owner = 0;
    gone[me] = true
  } unless { kill[me] || stopped[me] };
  if
  :: kill[me] ->
     d_step { alive[me] = false; asleep[me] = 0; if :: holder[message] == me + 1 -> was_at_dead[message] = true :: else fi; i = 0 }
     d_step { deaths++; do :: i <= WORKERS -> asleep[i] = 0; i++ :: else -> break od; i = 0; gone[me] = true }
  :: stopped[me] && round < MESSAGES -> gone[me] = true
  :: else
  fi
}

/* ---- the end: joins, closes, and looks what became of each message ---- */

init {
  state_t s; byte seen, has, head, from, to, at, was, n, i, known, expected, kills;
  byte me = WORKERS;
  atomic {
    do
    :: at < LANES * SLOTS -> lane[at / SLOTS].slot[at % SLOTS].kind = fresh; at++
    :: else -> break
    od;
    at = 0;
    do
    :: at < WORKERS ->
       alive[at] = true;
#if PREPARED  /* all is put already */
       if
       :: at < PRODUCERS ->
          alive[at] = false; gone[at] = true;
          do
          :: n < MESSAGES ->
             STORE(at, n, queued, n, 0, 0);
             SLOT(at, n).position = n; SLOT(at, n).message = at * MESSAGES + n;
             lane[at].tail++;
             committed[at * MESSAGES + n] = true; told[at * MESSAGES + n] = true;
             n++
          :: else -> n = 0; break
          od
       :: else -> run consumer(at)
       fi
#else
       if :: at < PRODUCERS -> run producer(at) :: else -> run consumer(at) fi
#endif
       at++
    :: else -> break
    od;
    alive[me] = true;
    at = 0
  }
#if CLOSE_EARLY
  closed = true;
  wake_everybody();
#else
  gone[0];
#if PRODUCERS > 1
  gone[1];
#endif
#endif
  do  /* join; consumers sweep */
  :: known = deaths;
     joined();
     if :: n -> break :: else fi
     count_as_sleeper(IDLE);
     joined();
     if :: n -> break :: else -> park(IDLE) fi
     if :: stops != 0 -> break :: else fi  /* what is in the hand of one that was stopped stays there */
  od;
#if !CLOSE_EARLY
  closed = true;
  wake_everybody();
#endif
  _nr_pr == 2;
  at = 0;
  do
  :: at < ALL_MESSAGES ->
     /* What was at a dead consumer when all others had seen the end waits, as promised; else it is finished. */
     assert(!told[at] || finished[at] == 1 || (CLOSE_EARLY && was_at_dead[at]) ||
            (holder[at] != 0 && stopped[holder[at] - 1]));
     assert(!refused[at] || !told[at]);
     at++
  :: else -> break
  od
}

/* Who may be killed and stopped: from FIRST_VICTIM on; the last consumer never. */
active proctype fate() {
  byte kills, who;
  do
  :: atomic {
       kills < KILLS -> who = FIRST_VICTIM;
       do :: who < WORKERS - 2 -> who++ :: break od;
       kill[who] = true; kills++; who = 0
     }
  :: atomic {
       stops < STOPS -> who = FIRST_VICTIM;
       do :: who < WORKERS - 2 -> who++ :: break od;
       stopped[who] = true; stops++; who = 0
     }
  :: break
  od;
end:
  false
}
