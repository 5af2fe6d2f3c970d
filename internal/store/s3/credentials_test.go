package s3

import (
	"os"
	"path/filepath"
	"testing"

	"slipway/internal/errs"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	file := filepath.Join(home, ".aws", "credentials")
	os.MkdirAll(filepath.Dir(file), 0o700)
	text := "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n; old\n\n[ci]\naws_access_key_id=C\naws_secret_access_key=D\naws_session_token=E\n[half]\naws_access_key_id=F\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HOME": home}, "A B= "},
		{map[string]string{"HOME": home, "AWS_PROFILE": "ci"}, "C D E"},
		{map[string]string{"HOME": home, "AWS_ACCESS_KEY_ID": "X", "AWS_SECRET_ACCESS_KEY": "Y", "AWS_SESSION_TOKEN": "Z"}, "X Y Z"},
		{map[string]string{"HOME": home, "AWS_ACCESS_KEY_ID": "X"}, "A B= "},
		{map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file}, "A B= "},
		{map[string]string{"HOME": home, "AWS_PROFILE": "half"}, ""},
		{map[string]string{"HOME": home, "AWS_PROFILE": "none"}, ""},
		{map[string]string{"HOME": "/nowhere"}, ""},
	} {
		c, err := credentials(func(n string) string { return tt.env[n] }).Retrieve(t.Context())
		if tt.want == "" {
			if !errs.Is(err, errs.Denied) || len(errs.Hints(err)) == 0 {
				t.Errorf("%v: %v", tt.env, err)
			}
		} else if got := c.AccessKeyID + " " + c.SecretAccessKey + " " + c.SessionToken; err != nil || got != tt.want {
			t.Errorf("%v: %q, %v", tt.env, got, err)
		}
	}
}
