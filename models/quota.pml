/* The quotas of a queue's lanes (lane_writer.cpp: publish; lane_quota.cpp: take_items, take_bytes, gather_quota; docs/design/queue.md): two owners put,
   each may, one at a time, move quota from the other's lane to its own; somebody takes messages; up to KILLS owners are killed
   between any two atomic steps, and up to STOPS times one that moves quota is stopped for so long that the other takes its place
   (and then it goes on). models/check runs this.

   Memory: sequentially consistent here. In the code: items are one word, the gate, changed by compare-and-swap. For bytes the owner stores
   its total, swaps the gate (seq_cst), and then loads its quota (seq_cst); who takes stores the quota (seq_cst) and then loads the total
   (seq_cst): of a store before and a load after, on both sides, one sees the other.

   Shown: never more waits than the queue may hold, in items or bytes; the sum of the quotas, as seen by who still moves quota, never
   exceeds it either.

   BUG: 1 who takes bytes looks what waits only before it lowers the quota; 2 the owner does not look at the quota again;
        3 the owner's new total is stored after its second look; 4 items are taken by a store instead of a compare-and-swap;
        5 who takes another's place does not give the quotas another turn; 6 a lane counts for its quota alone, also when more waits. */
#ifndef BUG
#define BUG 0
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef STOPS
#define STOPS 1
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef TRIES
#define TRIES 3
#endif
#define ITEMS 2
#define BYTES 3

typedef lane_t { byte tail, items; /* the gate: one word */ byte total, bytes; byte head, taken; byte size[4]; byte turn, bytes_turn; /* of the gate, and of bytes: one word with it */ byte committed, committed_bytes };
lane_t lane[2];
byte lock;                 /* 1 + who has it */
bool dead[2];
byte kills, stops;

#define WAITING_ITEMS (lane[0].committed + lane[1].committed - lane[0].head - lane[1].head)
#define WAITING_BYTES (lane[0].committed_bytes + lane[1].committed_bytes - lane[0].taken - lane[1].taken)

inline gather(need) {
  atomic {
    lock == 0 || (lock != me + 1 && (dead[lock - 1] || stops < STOPS)) ->
    had = (lock != 0);
    if :: lock != 0 && !dead[lock - 1] -> stops++ :: else fi;
    lock = me + 1
  };
  if
  :: had && BUG != 5 -> lane[0].turn++; lane[0].bytes_turn++; lane[1].turn++; lane[1].bytes_turn++
  :: else
  fi;
  atomic { items = lane[me].items; turn = lane[me].turn };
  atomic { quota = lane[me].bytes; bytes_turn = lane[me].bytes_turn };
  /* what nobody has, then what the other has and does not use */
  more = lane[me].items; more = more + lane[other].items;
  more_bytes = lane[me].bytes; waiting = lane[other].bytes; short_sum = more_bytes + waiting;
  if
  :: BUG != 6 ->
     taken = lane[me].taken; atomic { more_bytes = (lane[me].total - taken > more_bytes -> lane[me].total - taken : more_bytes) };
     taken = lane[other].taken; atomic { waiting = (lane[other].total - taken > waiting -> lane[other].total - taken : waiting) }
  :: else
  fi;
  if
  :: lock != me + 1 -> skip
  :: else ->
  atomic {
    assert(more <= ITEMS);
    assert(short_sum <= BYTES);
    more = ITEMS - more;
    more_bytes = (more_bytes + waiting > BYTES -> 0 : BYTES - more_bytes - waiting)
  }
  if
  :: more == 0 ->
     do
     :: head = lane[other].head;
        atomic { tail = lane[other].tail; had = lane[other].items; taken = lane[other].turn }
        if
        :: tail - head >= had -> break
        :: else ->
           atomic {
             if
             :: BUG == 4 || (lane[other].tail == tail && lane[other].items == had && lane[other].turn == taken) -> lane[other].items = had - 1; more = 1
             :: else
             fi
           }
           if :: more -> break :: else fi
        fi
     od
  :: else -> more = 1
  fi;
  if
  :: more_bytes < need ->
     atomic { had = lane[other].bytes; head = lane[other].bytes_turn };
     taken = lane[other].taken;
     waiting = lane[other].total - taken;
     if
     :: waiting < had ->
        tail = (had - waiting < need - more_bytes -> had - waiting : need - more_bytes);  /* so many are taken */
        atomic { if :: lane[other].bytes == had && lane[other].bytes_turn == head -> lane[other].bytes = had - tail :: else -> tail = 0 fi };
        taken = lane[other].taken;
        waiting = lane[other].total - taken;
        if
        :: waiting <= had - tail || BUG == 1 -> more_bytes = more_bytes + tail
        :: else  /* more waits there than its quota now: it counts for what waits */
        fi
     :: else
     fi
  :: else -> more_bytes = need
  fi;
  atomic { if :: lane[me].items == items && lane[me].turn == turn -> lane[me].items = items + more :: else fi };
  atomic { if :: lane[me].bytes == quota && lane[me].bytes_turn == bytes_turn -> lane[me].bytes = quota + more_bytes :: else fi }
  fi;
  atomic {
    if :: lock == me + 1 -> lock = 0 :: else fi;
    more = 0; more_bytes = 0; head = 0; tail = 0; had = 0; taken = 0; waiting = 0; turn = 0; bytes_turn = 0; short_sum = 0
  }
}

proctype owner(byte me; byte other) {
  byte round, tries, size, items, total, quota, head, tail, had, taken, waiting, more, more_bytes, turn, bytes_turn, short_sum, seen_head, seen_taken, short_of; bool put;
  {
    do
    :: round == MESSAGES - me || tries == TRIES -> break
    :: round < MESSAGES - me && tries < TRIES ->
       tries++;
       atomic { if :: size == 0 -> if :: size = 1 :: size = 2 fi :: else fi; put = false };
       atomic { seen_head = lane[me].head; seen_taken = lane[me].taken };
       items = lane[me].items;
       quota = lane[me].bytes;
       if
       :: lane[me].tail - seen_head < items && total + size - seen_taken <= quota ->
          if :: BUG != 3 -> lane[me].total = total + size :: else fi;
          atomic {  /* the gate */
            if :: lane[me].items == items -> lane[me].size[lane[me].tail % 4] = 0; lane[me].tail++; put = true :: else fi
          }
          quota = lane[me].bytes;
          if
          :: !put
          :: put && total + size - seen_taken > quota && BUG != 2 ->  /* passed over: a place that nobody takes from */
             lane[me].total = total;
             atomic { lane[me].committed++; lane[me].head++ }  /* its head moves on by itself: it is the last */
          :: put && (total + size - seen_taken <= quota || BUG == 2) ->
             if :: BUG == 3 -> lane[me].total = total + size :: else fi;
             atomic {
               total = total + size;
               lane[me].size[lane[me].committed % 4] = size;
               lane[me].committed++;
               lane[me].committed_bytes = lane[me].committed_bytes + size;
               assert(WAITING_ITEMS <= ITEMS);
               assert(WAITING_BYTES <= BYTES);
               size = 0; round++
             }
          fi
       :: else ->
          short_of = (total + size - seen_taken > quota -> total + size - seen_taken - quota : 0);
          gather(short_of);
       fi
    od
  } unless { dead[me] };
}

/* Takes the oldest of either lane, or nothing. A dead owner's messages are taken as well. */
active proctype taker() {
end:
  do
  :: atomic { lane[0].head < lane[0].committed -> lane[0].taken = lane[0].taken + lane[0].size[lane[0].head % 4]; lane[0].head++ }
  :: atomic { lane[1].head < lane[1].committed -> lane[1].taken = lane[1].taken + lane[1].size[lane[1].head % 4]; lane[1].head++ }
  od
}

active proctype fate() {
  do
  :: atomic { kills < KILLS -> kills++; if :: dead[0] = true :: dead[1] = true fi }
  :: break
  od
}

/* All is one owner's at first. */
init { atomic { lane[0].items = ITEMS; lane[0].bytes = BYTES; run owner(0, 1); run owner(1, 0) } }
