package s3

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"slipway/internal/errs"
)

// status gives the HTTP status of the store's answer; 0 when there was none.
func status(err error) int {
	var r *awshttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

// code gives the store's name for an error, such as NoSuchKey; "" without one.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// refusedCondition reports whether the store said that a condition does not hold.
// 409 is its answer to two conditional writes at the same time.
func refusedCondition(err error) bool {
	return status(err) == http.StatusPreconditionFailed || code(err) == "PreconditionFailed" || code(err) == "ConditionalRequestConflict"
}

// absent reports whether a key (not the bucket) is not there.
func absent(err error) bool {
	switch code(err) {
	case "NoSuchKey", "NotFound":
		return true
	case "NoSuchBucket":
		return false
	}
	return status(err) == http.StatusNotFound
}

// fault turns an error of the client into one that names bucket and key and says
// what to do. op is a verb; name is that of a file, "" for the bucket as such.
func (b *Bucket) fault(err error, op, name string) error {
	if err == nil {
		return nil
	}
	what := "s3://" + b.at.Bucket
	if name != "" {
		what += "/" + b.at.key(name)
	}
	msg := op + " " + what
	e := func(kind errs.Kind, why string, hint errs.Hint) error {
		if why != "" {
			why = ": " + why
		}
		return errs.E(kind, msg+why, hint, short(err))
	}
	var ours *errs.Error // no credentials, for one
	if errors.As(err, &ours) {
		return errs.Wrap(ours, "%s", msg)
	}
	bucketURL := "s3://" + b.at.Bucket
	switch c, st := code(err), status(err); {
	case c == "NoSuchBucket":
		return e(errs.NotFound, "there is no such bucket at "+b.endpoint, errs.Hintf("make it (aws s3 mb %s), or mend its name in settings.yaml", bucketURL))
	case absent(err):
		if name == "" {
			return e(errs.NotFound, "not found at "+b.endpoint, errs.Hintf("check the name of the bucket and the endpoint in settings.yaml"))
		}
		return errs.E(errs.NotFound, "no file "+name+" in "+b.at.String())
	case c == "RequestTimeTooSkewed":
		return e(errs.Unavailable, "the clock of this machine and that of "+b.endpoint+" differ too much", "set this machine's clock (timedatectl), then run the same command again")
	case c == "InvalidAccessKeyId" || c == "SignatureDoesNotMatch" || c == "InvalidToken" || c == "ExpiredToken":
		return e(errs.Denied, b.endpoint+" does not take the credentials", setThem)
	case c == "AuthorizationHeaderMalformed" || c == "PermanentRedirect" || c == "IllegalLocationConstraintException" || st == http.StatusMovedPermanently || st == http.StatusTemporaryRedirect:
		return e(errs.Invalid, fmt.Sprintf("the bucket is not in region %s", b.region), "set the bucket's region in settings.yaml, or AWS_REGION")
	case st == http.StatusUnauthorized || st == http.StatusForbidden:
		return e(errs.Denied, "not allowed", errs.Hintf("these credentials need s3:GetObject and s3:PutObject on %s/*, s3:ListBucket on %s", bucketURL, bucketURL))
	case st == http.StatusTooManyRequests || st >= 500 || c == "SlowDown":
		return e(errs.Unavailable, fmt.Sprintf("%s failed %d times", b.endpoint, b.o.Attempts), "nothing half-done is visible: when the store is well, run the same command again")
	case st == http.StatusInsufficientStorage || strings.Contains(c, "Quota") || strings.Contains(c, "StorageFull"):
		return e(errs.Unavailable, "the store is full", "free space or raise the quota, then run the same command again")
	case c == "" && st == 0 && errs.KindOf(err) == errs.Internal:
		return e(errs.Unavailable, fmt.Sprintf("%s does not answer, after %d tries", b.endpoint, b.o.Attempts), "nothing half-done is visible: check network and endpoint, then run the same command again")
	}
	return errs.Wrap(err, "%s", msg)
}

// short keeps what the store said, without the client's layers and request ids.
func short(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		if m := api.ErrorMessage(); m != "" && m != api.ErrorCode() {
			return fmt.Errorf("%s: %s", api.ErrorCode(), m)
		}
		return errors.New(api.ErrorCode())
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		if _, ok := inner.(*smithy.OperationError); ok {
			continue
		}
		if _, ok := inner.(*awshttp.ResponseError); ok {
			continue
		}
		err = inner
	}
	return err
}
