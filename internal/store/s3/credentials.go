package s3

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"slipway/internal/errs"
)

func getenv(name string) string { return os.Getenv(name) }

// credentials finds the key pair where Amazon's tools look first: the environment,
// then the shared credentials file. Without one, requests are errs.Denied.
func credentials(getenv func(string) string) aws.CredentialsProvider {
	return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		c := aws.Credentials{AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: getenv("AWS_SESSION_TOKEN"), Source: "environment"}
		if c.AccessKeyID != "" && c.SecretAccessKey != "" {
			return c, nil
		}
		path := getenv("AWS_SHARED_CREDENTIALS_FILE")
		if path == "" {
			path = filepath.Join(getenv("HOME"), ".aws", "credentials")
		}
		profile := getenv("AWS_PROFILE")
		if profile == "" {
			profile = "default"
		}
		return fromFile(path, profile)
	}))
}

const setThem errs.Hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to ~/.aws/credentials; for roles and single sign-on: eval \"$(aws configure export-credentials --format env)\""

// fromFile reads one profile of a shared credentials file: sections in brackets,
// lines of key = value, comments from # or ; on.
func fromFile(path, profile string) (aws.Credentials, error) {
	f, err := os.Open(path)
	if err != nil {
		return aws.Credentials{}, errs.E(errs.Denied, "no credentials for the object store: not in the environment, and not in "+path, setThem)
	}
	defer f.Close()
	values, in := map[string]string{}, false
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if name, ok := strings.CutPrefix(line, "["); ok {
			in = strings.TrimSpace(strings.TrimSuffix(name, "]")) == profile
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && in && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ";") {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	c := aws.Credentials{AccessKeyID: values["aws_access_key_id"], SecretAccessKey: values["aws_secret_access_key"], SessionToken: values["aws_session_token"], Source: "file"}
	if c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return c, errs.E(errs.Denied, fmt.Sprintf("no credentials for the object store: %s has no key pair for the profile %q", path, profile), setThem)
	}
	return c, nil
}
