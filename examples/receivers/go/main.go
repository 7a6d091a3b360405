// Receiver receives notifications and checks who sent them. Go 1.19 or newer, nothing else.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const bodyBytesMax, rememberedMax, clockSkewMax = 1 << 20, 10_000, 300 * time.Second

type receiver struct {
	secret      []byte
	lock        sync.Mutex
	seen, older map[string]bool
}

func (rec *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, line := rec.accept(r.Header, http.MaxBytesReader(w, r.Body, bodyBytesMax))
	fmt.Println(line)
	w.WriteHeader(status)
}

func (rec *receiver) accept(header http.Header, reader io.Reader) (status int, line string) {
	body, err := io.ReadAll(reader)
	if err != nil {
		return 413, "refused: " + err.Error()
	}
	if why := rec.verify(header, body); why != "" {
		return 401, "refused: " + why
	}
	// The headers are not signed, the body is: an id has to be the same in both.
	id := header.Get("X-O2IMS-Notification-ID")
	event := struct{ NotificationID string }{id}
	if err := json.Unmarshal(body, &event); err != nil || id == "" || event.NotificationID != id {
		return 400, "refused: not a notification"
	}
	// Here the work is done. Where it can fail, remember the id only after it succeeded.
	return 204, rec.remember(id) + " " + header.Get("X-O2IMS-Event-Type") + " " + id + " " + header.Get("X-O2IMS-Subscription-ID")
}

// verify says why not, unless someone who knows the secret signed these very bytes.
func (rec *receiver) verify(header http.Header, body []byte) string {
	mac := hmac.New(sha256.New, rec.secret)
	if timestamp := header.Values("X-O2IMS-Timestamp"); len(timestamp) > 0 {
		seconds, err := strconv.ParseUint(timestamp[0], 10, 40)
		if err != nil || time.Since(time.Unix(int64(seconds), 0)).Abs() > clockSkewMax {
			return "timestamp too far off"
		}
		mac.Write([]byte(timestamp[0] + "."))
	}
	mac.Write(body)
	if !hmac.Equal([]byte(fmt.Sprintf("%x", mac.Sum(nil))), []byte(header.Get("X-O2IMS-Signature"))) {
		return "missing or wrong signature"
	}
	return ""
}

func (rec *receiver) remember(id string) string {
	rec.lock.Lock()
	defer rec.lock.Unlock()
	if rec.seen[id] || rec.older[id] {
		return "duplicate"
	}
	if len(rec.seen) == rememberedMax {
		rec.seen, rec.older = map[string]bool{}, rec.seen
	}
	rec.seen[id] = true
	return "verified"
}

func main() {
	secret := os.Getenv("WEBHOOK_SECRET")
	if secret == "" || len(os.Args) != 2 {
		log.Fatal("usage: WEBHOOK_SECRET=… go run . 127.0.0.1:8083")
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	stop, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := http.Server{Handler: &receiver{secret: []byte(secret), seen: map[string]bool{}}, ReadTimeout: 30 * time.Second}
	go server.Serve(listener)
	<-stop.Done()
	time.AfterFunc(5*time.Second, func() { server.Close() })
	server.Shutdown(context.Background())
}
