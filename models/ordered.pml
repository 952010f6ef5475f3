/* One lane of a queue that goes by rank (docs/design/ordered_queue.md; covey/ipc/ordered_writer.cpp, ordered_lanes.cpp): its owner puts
   MESSAGES of any rank, TAKERS take GETS of them each, and are done with each or give it back; the owner may be killed between any two
   atomic steps, and is swept away. Who is stopped is one whose next step comes after any number of the others'. models/check runs this.

   Memory: sequentially consistent here. In the code what a message is made of, and the links, are stored before the exchange of its state
   and the compare-and-swap of `begin` (seq_cst), and read after acquire loads of these.

   Not here: bounds (quota.pml), several lanes, what is read of a message.

   Shown: whatever was put, or given back, before a walk began, and was there all the time, that walk finds, unless it finds what goes
   first; so nothing is lost that was put. A walk ends, and goes from a message to later ones only.

   BUG: 1 who shows a message leaves the version as it is when others need not begin earlier; 2 who takes gone ones out of the list lets
        others begin there; 3 a slot is used again at once; 4 walks do not look how many were put meanwhile; 5 who gives a message
        back does not let others begin anew; 6 who shows a message does not look whether others begin behind it; 7 who sweeps does not let others
        begin anew. */
#ifndef BUG
#define BUG 0
#endif
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef TAKERS
#define TAKERS 2
#endif
#ifndef GETS
#define GETS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#define SLOTS 2          /* numbered from 1 */
#define REUSE 2          /* puts_before_reuse */

mtype = { fresh, free, being_put, queued, in_flight };
typedef slot_t { mtype kind; byte message; byte next; byte order; byte left; bool listed };
slot_t slot[SLOTS + 1];  /* the next of 0 is the first */
byte gate;               /* how often was put */
byte begin, version;     /* one word */
bool here[MESSAGES];     /* message was put, or given back, and nobody has it since then */
byte order_of[MESSAGES];
bool dead;
byte kills;

/* What a walk must find: messages that are there since it began. */
typedef set_t { bool has[MESSAGES] };
set_t due[TAKERS];

inline not_due(m) { d_step { n = 0; do :: n < TAKERS -> due[n].has[m] = false; n++ :: else -> break od; n = 0 } }
inline begin_anew() { atomic { version++; begin = 0 } }

proctype owner() {
  byte put, at, before, s, n, seen_begin, seen_version; bool gone;
  {
    do
    :: put == MESSAGES -> break
    :: put < MESSAGES ->
       /* What is gone leaves the list: one store each. Nobody but the owner uses it again. */
       before = 0; gone = false;
       do
       :: atomic {
            at = slot[before].next;
            if
            :: at == 0 -> break
            :: at != 0 && slot[at].kind == free -> slot[before].next = slot[at].next; slot[at].left = gate; slot[at].listed = false; gone = true
            :: else -> before = at
            fi
          }
       od;
       if :: gone && BUG != 2 -> begin_anew() :: else fi;
       /* A slot; if there is none, there is no room: later. */
       atomic {
         s = 1;
         do
         :: s > SLOTS -> break
         :: else -> if :: slot[s].kind == fresh || (slot[s].kind == free && !slot[s].listed) -> break :: else -> s++ fi
         od
       }
       if
       :: s > SLOTS -> skip
       :: else ->
          if
          :: slot[s].kind == free && gate - slot[s].left < REUSE && BUG != 3 -> gate = gate + REUSE
          :: else
          fi;
          atomic { slot[s].kind = being_put; slot[s].message = put };
          gate++;
          atomic { if :: at = 0 :: at = 1 fi; slot[s].order = at * 4 + put; order_of[put] = slot[s].order };
          /* Where it belongs, it knows by itself; two stores. */
          atomic {
            before = 0;
            do
            :: slot[before].next != 0 && slot[slot[before].next].order < slot[s].order -> before = slot[before].next
            :: else -> break
            od;
            slot[s].next = slot[before].next
          };
          atomic { slot[before].next = s; slot[s].listed = true };
          slot[s].kind = queued;  /* the commit */
          do
          :: atomic { seen_begin = begin; seen_version = version };
             atomic {
               if
               :: begin == seen_begin && version == seen_version ->
                  if :: seen_begin != 0 && slot[s].order < slot[seen_begin].order && BUG != 6 -> begin = s :: else fi;
                  if :: BUG != 1 || begin != seen_begin -> version++ :: else fi;
                  if :: slot[s].kind == queued && slot[s].message == put -> here[put] = true :: else fi;
                  break
               :: else
               fi
             }
          od;
          put++
       fi
    od
  } unless { dead }
}

/* After the owner's death: what it was putting is free, what it put is there. */
proctype sweeper() {
  byte s;
end:
  dead;
  s = 1;
  do
  :: s > SLOTS -> break
  :: else -> atomic { if :: slot[s].kind == being_put -> slot[s].kind = free :: else fi }; s++
  od;
  atomic {
    if :: BUG != 7 -> version++; begin = 0 :: else fi;
    s = 1;
    do :: s > SLOTS -> break :: else -> if :: slot[s].kind == queued -> here[slot[s].message] = true :: else fi; s++ od
  }
}

proctype taker(byte me) {
  byte got, puts, at, to, seen_begin, seen_version, message, order, n, steps; bool found;
  do
  :: got == GETS -> break
  :: got < GETS ->
     atomic {
       puts = gate; steps = 0; found = false; to = 0;
       n = 0; do :: n < MESSAGES -> due[me].has[n] = here[n]; n++ :: else -> break od; n = 0
     }
     atomic { seen_begin = begin; seen_version = version };
     if :: seen_begin != 0 -> at = seen_begin :: else -> at = slot[0].next fi;
     order = 0;
     do
     :: at == 0 -> break
     :: at != 0 ->
        steps++;
        assert(steps <= 2 * SLOTS + REUSE);
        to = at;
        if
        :: atomic { slot[at].kind == queued -> message = slot[at].message; found = true }; break
        :: else -> at = slot[at].next
        fi
     od;
     if :: found -> order = slot[at].order; if :: slot[at].kind == queued && slot[at].message == message -> skip :: else -> goto again fi :: else fi;
     if :: BUG != 4 && gate - puts >= REUSE -> goto again :: else fi;
     /* What it should have found: at this moment it says what it found. */
     d_step {
       n = 0;
       do
       :: n < MESSAGES -> assert(!due[me].has[n] || (found && order <= order_of[n])); n++
       :: else -> break
       od;
       n = 0
     }
     atomic { if :: to != 0 && begin == seen_begin && version == seen_version -> begin = to :: else fi };
     if
     :: !found -> got++
     :: else ->
        atomic {
          if
          :: slot[at].kind == queued && slot[at].message == message -> slot[at].kind = in_flight; here[message] = false; not_due(message)
          :: else -> goto again
          fi
        };
        got++;
        if
        :: slot[at].kind = free
        :: atomic { slot[at].kind = queued };
           if :: BUG != 5 -> begin_anew() :: else fi;
           atomic { if :: slot[at].kind == queued && slot[at].message == message -> here[message] = true :: else fi }
        fi
     fi;
again:
     atomic { n = 0; do :: n < MESSAGES -> due[me].has[n] = false; n++ :: else -> break od; n = 0 }
  od
}

active proctype fate() {
  do
  :: atomic { kills < KILLS -> kills++; dead = true }
  :: break
  od
}

init {
  byte n;
  atomic {
    n = 0; do :: n < SLOTS + 1 -> slot[n].kind = fresh; n++ :: else -> break od;
    run owner(); run sweeper();
    n = 0; do :: n < TAKERS -> run taker(n); n++ :: else -> break od
  }
}
