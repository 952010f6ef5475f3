/* A broadcast (broadcast_writer.cpp: put, make_room, prepare; broadcast_messages.cpp: next_spot, oldest, evict, copy_out; docs/design/broadcast.md):
   two publishers, each with a lane, put; one subscribes and gets. Up to KILLS times a publisher is killed between any two atomic steps, and another takes its lane
   over; up to STOPS publishers are stopped for ever. That one is stopped and goes on is every interleaving. models/check runs this.

   Memory: sequentially consistent here. In the code: places, hints and cursors are (seq_cst); headers and payloads are read like a sequence lock, with fences,
   which are one step each here.

   Shown: what is got at number n is what was committed there, whole; under BLOCK nothing committed after subscribe() is missed; never more is kept than
   ITEMS and BYTES, at any instant; a header that its place still names has that number; everybody comes to an end who is not stopped.

   BUG: 1 headers are used again a round too soon; 2 the subscriber does not look at the place again; 3 the commit is a store; 4 an extent is used again unasked;
        5 who lets go of messages looks at the cursors alone, not at the next number before; 6 who takes a lane over takes all its extents for free;
        7 room for bytes is counted without the messages that are queued before the last. */
#ifndef BUG
#define BUG 0
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef STOPS
#define STOPS 1
#endif
#ifndef BLOCK
#define BLOCK 0
#endif
#ifndef ITEMS
#define ITEMS 1
#endif
#ifndef FIRST
#define FIRST 2   /* messages of one publisher */
#endif
#ifndef SECOND
#define SECOND 1  /* and of the other */
#endif
#define BYTES 3
#define PLACES (ITEMS + 1)
#define HEADERS (BUG == 1 -> PLACES : PLACES + 1)
#define EXTENTS (ITEMS + 1)
#define ALL (FIRST + SECOND)
#define nobody 255

mtype = { fresh, free_, queued };
typedef place_t { mtype kind = fresh; byte lane, number };
place_t place[PLACES];
byte next, oldest;                       /* hints */
typedef header_t { byte number = nobody; byte end, size, extent };
typedef lane_t { header_t header[PLACES + 1]; byte payload[EXTENTS] };
lane_t lane[2];
bool entry, ready; byte cursor;          /* the subscription */
byte ended;                              /* publishers that finished, or are stopped for ever */
bool dead[2];
byte kills, stops;

/* What the code does not know. */
byte committed[ALL], size_of[ALL], tail, head;

inline kept_is_bounded() {
  d_step {
    assert(tail - head <= ITEMS);
    sum = 0; i = head;
    do :: i < tail -> sum = sum + size_of[i]; i++ :: else -> break od;
    assert(sum <= BYTES); sum = 0; i = 0
  }
}

inline forget() { d_step { t = 0; h = 0; before = 0; begin = 0; w_kind = fresh; w_number = 0; v = 0; e = 0; i = 0; limit = 0 } }

/* Of message n, into `field`; `ok` unless its place has a later one by now. */
inline read_header(n, field_end, field_begin) {
  atomic { ok = (place[(n) % PLACES].kind != fresh && place[(n) % PLACES].number == (n)); v = place[(n) % PLACES].lane };
  if
  :: ok ->
     d_step { i = lane[v].header[(n) % HEADERS].number; field_end = lane[v].header[(n) % HEADERS].end; field_begin = field_end - lane[v].header[(n) % HEADERS].size };
     d_step { ok = (place[(n) % PLACES].number == (n) && place[(n) % PLACES].lane == v); assert(!ok || i == (n)); i = 0; v = 0 }
  :: else -> v = 0
  fi
}

proctype publisher(byte me; byte messages) {
  byte done, size, t, h, before, begin, end_of, w_number, v, e, i, sum, got, limit, extent = nobody; mtype w_kind; bool ok, stopped;
  byte number_at[EXTENTS];               /* which message has the extent */
  d_step { i = 0; do :: i < EXTENTS -> number_at[i] = nobody; i++ :: else -> break od; i = 0 };
life:
  {
    do
    :: done == messages -> break
    :: done < messages ->
       atomic { if :: size == 0 -> if :: size = 1 :: size = 2 fi :: else fi };
       /* next_spot */
       t = next;
       d_step { w_kind = place[t % PLACES].kind; w_number = place[t % PLACES].number };
       if
       :: w_kind != fresh && w_number == t -> atomic { if :: next == t -> next = t + 1 :: else fi; forget() }
       :: w_kind != fresh && w_number > t -> forget()
       :: else ->
          assert(w_kind == fresh || (w_number + PLACES == t && w_kind == free_));
          ok = true; before = 0;
          if :: t > 0 -> read_header(t - 1, before, begin) :: else fi;
          if
          :: !ok -> forget()
          :: ok ->
             /* make_room */
             do
             :: h = oldest;
                d_step { if :: t > ITEMS && h + PLACES < t -> h = t - PLACES :: else fi };
                do
                :: h >= t || (place[h % PLACES].kind == queued && place[h % PLACES].number == h) -> break
                :: else -> h++
                od;
                if
                :: h >= t -> break
                :: else ->
                   read_header(h, end_of, begin);
                   if
                   :: !ok -> skip
                   :: ok && t - h < ITEMS && (BUG == 7 -> size : before + size - begin) <= BYTES -> break
                   :: else ->
                      if
                      :: BLOCK && h >= got ->
                         /* next_number, then least_cursor */
                         limit = next;
                         d_step { if :: place[limit % PLACES].kind != fresh && place[limit % PLACES].number >= limit -> limit++ :: else fi; if :: BUG == 5 -> limit = 200 :: else fi };
                         d_step { if :: entry && !ready -> got = 0 :: entry && ready -> got = (cursor < limit -> cursor : limit) :: !entry -> got = limit fi };
                         if
                         :: h >= got -> (next > t || !entry || (ready && cursor > h)); h = 250; break  /* sleeps */
                         :: else
                         fi
                      :: else
                      fi;
                      d_step {
                        if
                        :: place[h % PLACES].kind == queued && place[h % PLACES].number == h -> place[h % PLACES].kind = free_; assert(head == h); head++
                        :: else
                        fi
                      };
                      d_step { if :: oldest < h + 1 -> oldest = h + 1 :: else fi }
                   fi
                fi
             od;
             if
             :: h == 250 -> forget()
             :: else ->
                /* prepare */
                if
                :: extent == nobody ->
                   e = 0;
                   do
                   :: e < EXTENTS && (number_at[e] == nobody || BUG == 4) -> break
                   :: e < EXTENTS && number_at[e] != nobody ->
                      if
                      :: !(place[number_at[e] % PLACES].kind == queued && place[number_at[e] % PLACES].number == number_at[e]) -> break
                      :: else -> e++
                      fi
                   :: e == EXTENTS -> assert(false)
                   od;
                   extent = e; number_at[e] = nobody;
                   lane[me].payload[e] = 0;                       /* half written */
                   lane[me].payload[e] = 1 + me * 8 + done
                :: else
                fi;
                /* write_header: half of it, and all */
                d_step { lane[me].header[t % HEADERS].number = nobody };
                d_step {
                  lane[me].header[t % HEADERS].number = t; lane[me].header[t % HEADERS].end = before + size;
                  lane[me].header[t % HEADERS].size = size; lane[me].header[t % HEADERS].extent = extent
                };
                atomic {
                  if
                  :: BUG == 3 || (place[t % PLACES].kind == w_kind && place[t % PLACES].number == w_number) ->
                     assert(tail == t);
                     place[t % PLACES].kind = queued; place[t % PLACES].lane = me; place[t % PLACES].number = t;
                     committed[t] = 1 + me * 8 + done; size_of[t] = size; tail++;
                     kept_is_bounded();
                     number_at[extent] = t; extent = nobody; done++; size = 0
                  :: else
                  fi;
                  forget()
                }
             fi
          fi
       fi
    :: stops < STOPS -> atomic { stops++; ended++; stopped = true }; end_stopped: false
    od
  } unless { atomic { dead[me] -> dead[me] = false }; goto taken_over };
  atomic { ended++; forget(); goto finish };
taken_over:
  /* What was put counts; what was not begins anew, in the hand of another. */
  atomic {
    if :: stopped -> ended--; stopped = false :: else fi;
    forget(); extent = nobody; size = 0; got = 0; done = 0; end_of = 0; sum = 0;
    do :: i < tail -> if :: (committed[i] - 1) / 8 == me -> done++ :: else fi; i++ :: else -> break od;
    i = 0; do :: i < EXTENTS -> number_at[i] = nobody; i++ :: else -> break od; i = 0
  };
  do
  :: i < PLACES ->
     d_step {
       if
       :: BUG != 6 && place[i].kind == queued && place[i].lane == me -> number_at[lane[me].header[place[i].number % HEADERS].extent] = place[i].number
       :: else
       fi;
       i++
     }
  :: else -> i = 0; break
  od;
  goto life;
finish: skip
}

proctype subscriber() {
  byte number, extent, value, v, i; bool here, end_;
  entry = true;
  number = next;
  d_step { if :: place[number % PLACES].kind != fresh && place[number % PLACES].number >= number -> number++ :: else fi; cursor = number };
  ready = true;
  number = 0;
  do
  :: end_ = (ended == 2);
     atomic { here = (place[cursor % PLACES].kind == queued && place[cursor % PLACES].number == cursor); v = place[cursor % PLACES].lane };
     if
     :: here ->
        d_step { i = lane[v].header[cursor % HEADERS].number; extent = lane[v].header[cursor % HEADERS].extent };
        here = (place[cursor % PLACES].kind == queued && place[cursor % PLACES].number == cursor);
        if
        :: here ->
           assert(i == cursor);
           value = lane[v].payload[extent];
           if
           :: BUG == 2 || (place[cursor % PLACES].kind == queued && place[cursor % PLACES].number == cursor) ->
              assert(value == committed[cursor]);
              cursor++
           :: else
           fi
        :: else
        fi
     :: else ->
        d_step {
          if
          :: place[cursor % PLACES].kind != fresh && place[cursor % PLACES].number >= cursor && !(place[cursor % PLACES].kind == queued && place[cursor % PLACES].number == cursor) ->
             assert(!BLOCK);  /* it is gone */
             cursor++
          :: else -> if :: end_ && cursor == tail -> number = 1 :: else fi
          fi
        };
        if
        :: number == 1 -> break
        :: else -> (tail > cursor || ended == 2)
        fi
     fi;
     d_step { i = 0; v = 0; extent = 0; value = 0; here = false; end_ = false }
  od
}

proctype killer() {
  do
  :: kills < KILLS -> atomic { kills++; if :: dead[0] = true :: dead[1] = true fi }
  :: break
  od
}

init { atomic { run publisher(0, FIRST); run publisher(1, SECOND); run subscriber(); run killer() } }
